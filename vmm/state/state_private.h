/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of a state file, for the files of this folder; docs/snapshot-format.md says the same for people.
 *
 *   file     header, sections, end: a section without name, instance and body; XXH3-64 of all that stands before it
 *   section  struct section_head, name, instance, body: fields
 *   field    struct field_head, name, payload
 *   payload  UINT: the numbers, `width` bytes each     BYTES, TEXT: the bytes
 *            LIST: for each element its length (32 bits) and its fields
 *
 * All numbers are little-endian, nothing is aligned.
 */
#pragma once

#include "vmm/state/state.h"

#define STATE_MAGIC	    "BHSTATE" /* 8 bytes with its NUL */
#define STATE_FLAG_OPTIONAL 1u

struct state_header {
	char magic[8];
	uint32_t format;
	uint32_t reserved; /* 0 */
} __attribute__((packed));

struct section_head {
	uint32_t size; /* of the body */
	uint16_t version;
	uint16_t flags;
	uint8_t name, instance; /* lengths */
} __attribute__((packed));

struct field_head {
	uint32_t size; /* of the payload */
	uint8_t name;  /* length */
	uint8_t kind, width, flags;
} __attribute__((packed));

/* A field as it stands in the file. */
struct field_view {
	struct field_head head;
	char name[STATE_NAME_MAX + 1];
	const uint8_t *payload;
};

/* Bytes that are still to be read. */
struct state_bytes {
	const uint8_t *at;
	size_t left;
};

/* False: it is not all there, or not one that a writer makes. */
bool state_take(struct state_bytes *from, void *into, size_t size);
bool state_take_name(struct state_bytes *from, char *into, size_t length, bool may_be_empty);
bool state_take_field(struct state_bytes *from, struct field_view *field);
/* The bytes of a list's next element. */
bool state_take_element(struct state_bytes *from, struct state_bytes *element);

/* Number `index` of a UINT field. */
uint64_t state_number(const struct field_view *field, uint32_t index);
