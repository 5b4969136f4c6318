/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables that describe structures to users: a `struct schema` names a key, its type, range, allowed
 * values and default, and where its value is stored. From one such table come the command line's
 * flags, compound values ("k=v,k=v"), the keys of a JSON file, --help, the man page and completion.
 *
 * There is one validator, schema_fill(): JSON in, a filled C structure out. A flag's text is first
 * made into the JSON value that a file would have had (schema_flag(), schema_args()), so that a flag
 * and a key can differ neither in meaning nor in what they refuse. Defaults are written in the table
 * as flag text and take the same way.
 *
 * Messages name the path of the key and what would have been right:
 *   disk[0].cache: 'turbo' is not one of none, writeback, writethrough
 *
 * No state: everything here is thread-safe on different objects.
 */
#pragma once

#include "vmm/base/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum schema_type {
	SCHEMA_BOOL,   /* bool: true, false, "on", "off" */
	SCHEMA_NUMBER, /* unsigned, int or uint64_t, min to max */
	SCHEMA_SIZE, /* uint64_t: a number of bytes, or text with a suffix K, M, G, T; min to max */
	SCHEMA_CHOICE, /* an enum, by name */
	SCHEMA_WORD,   /* char *: one of the choices' names, kept as text */
	SCHEMA_TEXT,   /* char *: min to max bytes, no control characters */
	SCHEMA_PATH,   /* char *: 1 to max bytes */
	SCHEMA_STRING, /* char *: min to max bytes of any text, lines included */
	SCHEMA_BYTES,  /* struct schema_bytes: base64 text of min to max bytes */
	SCHEMA_TEXTS,  /* struct schema_texts: a list of min to max texts */
	SCHEMA_ID,     /* char[64]: an identifier, [a-z0-9][a-z0-9._-]{0,62} */
	SCHEMA_MAC,    /* uint8_t[6]: a unicast Ethernet address, not zero */
	SCHEMA_OBJECT, /* members, stored relative to the same structure */
	SCHEMA_JSON, /* json_t *: an object, checked by whoever takes it; a reference of its own */
	SCHEMA_LIST, /* an array of at most `max` structures of `size` bytes, each with members */
};

/* Where SCHEMA_BYTES and SCHEMA_TEXTS are stored. `data` and `items` are NULL when none was given. */
struct schema_bytes {
	uint8_t *data;
	size_t size;
};

struct schema_texts {
	char **items; /* NULL-terminated, as execve() wants it */
	unsigned count;
};

/* A name that ends in ':' takes text behind it ("file:PATH"), stored as char * at `rest`. */
struct schema_choice {
	const char *name;
	int value;
};

struct schema {
	const char *name; /* the key, and with two dashes in front the flag; NULL ends a table */
	enum schema_type type;
	bool required;
	bool joins; /* as a flag given again: the texts are joined by a space; otherwise the last one wins */
	bool flag_only; /* a flag that is no key: handled by the caller */
	uint64_t min, max;
	size_t offset, size; /* where the value goes, and its size (LIST: of one element) */
	size_t extra;	     /* LIST: the unsigned that counts the elements; CHOICE: `rest` */
	const struct schema_choice *choices; /* up to a NULL name */
	const struct schema *members;	     /* up to a NULL name */
	const char *lead;		     /* OBJECT: the member that a bare value stands for */
	const char *value;		     /* the default, as flag text; NULL: stays as it was */
	const char *placeholder;	     /* FILE in `--kernel FILE` */
	const char *fallback; /* the default in words, where `value` does not say it */
	const char *help;     /* one sentence, no capital, no full stop */
};

#define SCHEMA_ID_SIZE 64

/*
 * Check `object` against the table and store its values in `target`, which the caller has zeroed.
 * `path` names the object in messages ("" at the top). After a failure the caller still owes a
 * schema_release().
 */
int schema_fill(const struct schema *table, const json_t *object, void *target, const char *path,
	struct error *err);

/* Free the texts and bytes that schema_fill() stored. */
void schema_release(const struct schema *table, void *target);

/* A filled structure as JSON again; what has no value is left out. A new reference, NULL when memory is short. */
json_t *schema_dump(const struct schema *table, const void *target);

/* Put the value of flag `option` (text NULL: none given) into `flags`, a JSON object, under its name. */
int schema_flag(const struct schema *option, const char *text, json_t *flags, struct error *err);

/*
 * All arguments, "--name value", "--name=value" or "--name", up to the end; nothing else is accepted
 * but "--help" and "-h", which set *help and end the parsing. Returns a new JSON object in *flags.
 */
int schema_args(const struct schema *table, int argc, char *const *argv, json_t **flags, bool *help,
	struct error *err);

const struct schema *schema_find(const struct schema *table, const char *name);

/* The member of `table` that `typed` was probably meant to be, or NULL. */
const char *schema_nearest(const struct schema *table, const char *typed);

/* A size in bytes with an optional suffix K, M, G, T (powers of 1024). False when it is none or overflows. */
bool schema_size_parse(const char *text, uint64_t *bytes);
/* The shortest text that means the same: 536870912 is "512M". Returns buf. */
const char *schema_size_format(uint64_t bytes, char *buf, size_t size);

/* "none, writeback, writethrough", or with `between` "|" the same in a synopsis. Returns buf. */
const char *schema_choices_format(
	const struct schema *option, const char *between, char *buf, size_t size);
