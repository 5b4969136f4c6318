/* SPDX-License-Identifier: Apache-2.0 */
/* Help texts from the tables, wrapped to 80 columns. See help.h. */
#include "vmm/cli/help.h"

#include <string.h>

#define COLUMNS	    80
#define TEXT_COLUMN 26

static const char *value_name(const struct schema *s, char *buf, size_t size)
{
	if (s->choices)
		return schema_choices_format(s, "|", buf, size);
	snprintf(buf, size, "%s",
		s->placeholder		 ? s->placeholder
		: s->type == SCHEMA_BOOL ? "on|off"
					 : "VALUE");
	return buf;
}

const char *help_member(const struct schema *member, char *buf, size_t size)
{
	char value[96];

	if (member->type == SCHEMA_BOOL)
		snprintf(buf, size, "%s[=on|off]", member->name);
	else
		snprintf(
			buf, size, "%s=%s", member->name, value_name(member, value, sizeof(value)));
	return buf;
}

const char *help_value(const struct schema *option, char *buf, size_t size)
{
	size_t used = 0;
	char item[128];

	buf[0] = '\0';
	if (option->type == SCHEMA_BOOL)
		return buf;
	if (!option->members)
		return value_name(option, buf, size);
	for (const struct schema *m = option->members; m->name && used < size; m++) {
		bool first = m == option->members,
		     bare = option->lead && !strcmp(option->lead, m->name);
		bool bracket = !first && !m->required;

		if (bare)
			value_name(m, item, sizeof(item));
		else
			help_member(m, item, sizeof(item));
		used += (size_t)snprintf(buf + used, size - used, "%s%s%s%s", bracket ? "[" : "",
			first ? "" : ",", item, bracket ? "]" : "");
	}
	return buf;
}

const char *help_default(const struct schema *option)
{
	if (option->fallback)
		return option->fallback;
	if (option->type == SCHEMA_BOOL && option->value && !strcmp(option->value, "off"))
		return NULL; /* what a switch is without being given goes without saying */
	return option->value;
}

/* Print words from `column` on, breaking lines so that each begins at `indent`. Ends the line. */
static void print_wrapped(FILE *to, unsigned column, unsigned indent, const char *text)
{
	bool start = true;

	while (*text) {
		unsigned len = (unsigned)strcspn(text, " ");

		if (!start && column + 1 + len > COLUMNS) {
			fprintf(to, "\n%*s", (int)indent, "");
			column = indent;
			start = true;
		}
		fprintf(to, "%s%.*s", start ? "" : " ", (int)len, text);
		column += len + !start;
		start = false;
		text += len;
		text += strspn(text, " ");
	}
	fputc('\n', to);
}

/* "  --flag VALUE      help (default: …)", the help on a line of its own where the flag is long. */
static void print_entry(FILE *to, unsigned indent, const char *what, const struct schema *s)
{
	unsigned column = indent + (unsigned)strlen(what);
	char text[512];
	const char *fallback = help_default(s);

	snprintf(text, sizeof(text), "%s%s%s%s", s->help, s->required ? " (required)" : "",
		fallback ? "; default: " : "", fallback ? fallback : "");
	fprintf(to, "%*s%s", (int)indent, "", what);
	if (column + 2 > TEXT_COLUMN)
		fprintf(to, "\n%*s", TEXT_COLUMN, "");
	else
		fprintf(to, "%*s", (int)(TEXT_COLUMN - column), "");
	print_wrapped(to, TEXT_COLUMN, TEXT_COLUMN, text);
}

static void print_option(FILE *to, const struct schema *option)
{
	char value[384], what[512];
	bool compound = option->members != NULL;

	help_value(option, value, sizeof(value));
	if (compound) /* the members follow in lines of their own */
		value[strcspn(value, "[,")] = '\0';
	snprintf(what, sizeof(what), "--%s%s%s%s", option->name, *value ? " " : "", value,
		compound ? ",..." : "");
	print_entry(to, 2, what, option);
	for (const struct schema *m = option->members; m && m->name; m++) {
		help_member(m, value, sizeof(value));
		print_entry(to, 6, value, m);
	}
}

void help_print_command(FILE *to, const struct command *command)
{
	fprintf(to, "Usage: bulkhead %s %s\n\n%s\n\nOptions:\n", command->name,
		command->arguments ? command->arguments : "[OPTIONS]", command->summary);
	for (const struct schema *s = command->options; s->name; s++)
		print_option(to, s);
	fprintf(to, "  %-*s%s\n", TEXT_COLUMN - 2, "--help", "print this");
	if (command->notes) {
		fputc('\n', to);
		print_wrapped(to, 0, 0, command->notes);
	}
}

void help_print(FILE *to)
{
	fprintf(to,
		"Usage: bulkhead COMMAND [OPTIONS]\n\n"
		"Runs one workload per virtual machine: a kernel of its own, handled like a container.\n\n"
		"Commands:\n");
	for (unsigned i = 0; i < COMMAND_COUNT; i++)
		fprintf(to, "  %-10s%s\n", commands[i].name, commands[i].summary);
	fprintf(to, "  %-10s%s\n\n", "help", "print this, or with a command's name its options");
	fprintf(to, "  --help     print this\n"
		    "  --version  print the versions of program, state format and API\n\n"
		    "See 'bulkhead COMMAND --help' and the man page bulkhead(1).\n");
}
