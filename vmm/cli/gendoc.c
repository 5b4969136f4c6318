/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program of the build, never installed: writes what the tables of options say into documents.
 *
 *	gendoc man TEMPLATE	copies an scdoc page; the line "@OPTIONS command@" becomes the options
 *				of that command, so that no page can lack or invent one
 *	gendoc completion	the bash completion (the machinery is in completion.bash.in, the words
 *				come from here: one line for each option of each command)
 */
#include "vmm/base/util.h"
#include "vmm/cli/help.h"

#include <stdio.h>
#include <string.h>

static const struct command *find_command(const char *name)
{
	for (unsigned i = 0; i < COMMAND_COUNT; i++)
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	return NULL;
}

/* scdoc gives meaning to these (scdoc(5)): said plainly, with a backslash in front. */
static void print_escaped(const char *text)
{
	for (; *text; text++) {
		if (strchr("\\_*<>#~|.[]", *text))
			putchar('\\');
		putchar(*text);
	}
}

static void print_what(const struct schema *s)
{
	const char *fallback = help_default(s);

	print_escaped(s->help);
	putchar('.');
	if (s->required)
		printf(" Required.");
	if (fallback) {
		printf(" Default: ");
		print_escaped(fallback);
		putchar('.');
	}
	printf("\n\n");
}

static void print_man_option(const struct schema *s)
{
	char value[384];

	printf("*--%s*", s->name);
	if (*help_value(s, value, sizeof(value))) {
		putchar(' ');
		print_escaped(value);
	}
	printf("\n\t");
	print_what(s);
	for (const struct schema *m = s->members; m && m->name; m++) {
		putchar('\t');
		putchar('*');
		print_escaped(help_member(m, value, sizeof(value)));
		printf("*\n\t\t");
		print_what(m);
	}
}

static int print_man(const char *path)
{
	FILE *in = fopen(path, "re");
	char line[1024], name[32];

	if (!in) {
		perror(path);
		return 1;
	}
	while (fgets(line, sizeof(line), in)) {
		const struct command *command = NULL;

		if (sscanf(line, "@OPTIONS %31[a-z]@", name) != 1) {
			fputs(line, stdout);
			continue;
		}
		command = find_command(name);
		if (!command) {
			fprintf(stderr, "%s: no command '%s'\n", path, name);
			return 1;
		}
		for (const struct schema *s = command->options; s->name; s++)
			print_man_option(s);
		printf("*--help*\n\tprint the options.\n\n");
	}
	fclose(in);
	return 0;
}

/* The words behind KEY= or the flag itself: "<file>" stands for names of files. */
static void print_words(const struct schema *s, const char *before)
{
	if (s->type == SCHEMA_PATH) {
		printf(" %s<file>", before);
		return;
	}
	if (s->type == SCHEMA_BOOL && *before) {
		printf(" %.*s %son %soff", (int)strlen(before) - 1, before, before, before);
		return;
	}
	for (const struct schema_choice *c = s->choices; c && c->name; c++)
		printf(" %s%s%s", before, c->name,
			c->name[strlen(c->name) - 1] == ':' ? "<file>" : "");
	if (!s->choices && *before)
		printf(" %s", before);
}

static void print_completion_option(const struct command *command, const struct schema *s)
{
	/* switch: no value follows; list: items between commas; value: one word */
	printf("%s --%s %s", command->name, s->name,
		s->type == SCHEMA_BOOL ? "switch"
		: s->members	       ? "list"
				       : "value");
	if (!s->members)
		print_words(s, "");
	for (const struct schema *m = s->members; m && m->name; m++) {
		char before[64];

		snprintf(before, sizeof(before), "%s=", m->name);
		print_words(m, before);
	}
	putchar('\n');
}

static int print_completion(const char *path)
{
	FILE *in = fopen(path, "re");
	char line[1024];

	if (!in) {
		perror(path);
		return 1;
	}
	while (fgets(line, sizeof(line), in)) {
		if (strcmp(line, "@OPTIONS@\n") != 0) {
			fputs(line, stdout);
			continue;
		}
		for (unsigned i = 0; i < COMMAND_COUNT; i++) {
			for (const struct schema *s = commands[i].options; s->name; s++)
				print_completion_option(&commands[i], s);
			printf("%s --help switch\n", commands[i].name);
		}
	}
	fclose(in);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "man"))
		return print_man(argv[2]);
	if (argc == 3 && !strcmp(argv[1], "completion"))
		return print_completion(argv[2]);
	fprintf(stderr, "usage: gendoc man|completion TEMPLATE\n");
	return 2;
}
