/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A method's structure of parameters as JSON, by the table that was made with it (methods.c). What is NULL is left out, so that the
 * VM's own default holds. The structure may be shorter or longer than ours: what it does not have is not given, and
 * what we do not know must be zero.
 */
#include "vmm/lib/private.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <string.h>

static json_t *texts_json(const char *const *texts)
{
	json_t *list = json_array();

	for (; list && *texts; texts++)
		if (json_array_append_new(list, json_string(*texts))) {
			json_decref(list);
			return NULL;
		}
	return list;
}

/* A pointer member's value; it is not NULL. */
static json_t *pointed_json(const struct typed_param *param, const void *value)
{
	switch (param->kind) {
	case TYPED_TEXT:
		return json_string(value);
	case TYPED_NUMBER:
		return json_integer((json_int_t) * (const uint64_t *)value);
	case TYPED_BOOL:
		return json_boolean(*(const bool *)value);
	case TYPED_TEXTS:
		return texts_json(value);
	case TYPED_JSON:
		return json_loads(value, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
	}
	return NULL;
}

static int add_param(json_t *object, const struct typed_method *method,
	const struct typed_param *param, const char *member, struct bulkhead_error *err)
{
	bool by_value = param->required && param->kind == TYPED_NUMBER;
	const void *value =
		by_value ? (const void *)member : *(const void *const *)(const void *)member;

	if (!value && param->required)
		return fail(err, BULKHEAD_BAD_REQUEST, EINVAL, "%s: %s is missing", method->name,
			param->name);
	if (value && json_object_set_new(object, param->name, pointed_json(param, value)))
		return fail(err, BULKHEAD_BAD_REQUEST, EINVAL, "%s: %s is no %s", method->name,
			param->name, param->kind == TYPED_JSON ? "JSON" : "text in UTF-8");
	return 0;
}

static int is_known(const struct typed_method *method, const char *bytes, size_t size, size_t known,
	struct bulkhead_error *err)
{
	if (size < sizeof(size_t))
		return fail(err, BULKHEAD_BAD_REQUEST, EINVAL,
			"%s: struct_size is %zu: set it to the structure's size", method->name,
			size);
	for (size_t i = known; i < size; i++)
		if (bytes[i])
			return fail(err, BULKHEAD_INCOMPATIBLE, ENOTSUP,
				"%s: version %s does not know all of these parameters",
				method->name, BULKHEAD_VERSION);
	return 0;
}

static int params_json(const struct typed_method *method, const void *params, json_t **out,
	struct bulkhead_error *err)
{
	const char *bytes = params;
	size_t size = params ? *(const size_t *)params : sizeof(size_t);
	size_t known = sizeof(size_t);
	json_t *object = json_object();
	int ret = object ? 0 : fail_errno(err, ENOMEM, method->name);

	for (const struct typed_param *p = method->params; p && p->name && ret == 0; p++) {
		known = p->offset + p->size;
		if (bytes && known <= size)
			ret = add_param(object, method, p, bytes + p->offset, err);
		else if (p->required)
			ret = fail(err, BULKHEAD_BAD_REQUEST, EINVAL, "%s: %s is missing",
				method->name, p->name);
	}
	if (ret == 0 && params)
		ret = is_known(method, bytes, size, known, err);
	if (ret < 0)
		json_decref(object);
	else
		*out = object;
	return ret;
}

int typed_call(struct bulkhead_vm *vm, const struct typed_method *method, const void *params,
	bulkhead_answer *done, void *user, struct bulkhead_error *err)
{
	json_t *object;
	int ret = params_json(method, params, &object, err);

	return ret < 0 ? ret : call_start(vm, method->name, object, done, user, err);
}

int typed_call_wait(struct bulkhead_vm *vm, const struct typed_method *method, const void *params,
	int timeout_ms, char **result, struct bulkhead_error *err)
{
	json_t *object;
	int ret = params_json(method, params, &object, err);

	return ret < 0 ? ret : call_and_wait(vm, method->name, object, timeout_ms, result, err);
}
