// What the host does with a config before a plugin sees it, for tests: keys that the schema doesn't
// know, missing required ones, wrong types and numbers out of bounds are refused; defaults are
// filled in. Looks at the members of the config object; nested schemas are the host's to check.
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_SDK_TESTING_SCHEMA_H_
#define RETORT_SDK_TESTING_SCHEMA_H_

#include "retort/sdk/testing_json.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct retort_test_filler {
  retort_test_json *schema, *config;
  char* out; /* the config with its defaults */
  uint64_t n;
  char* error;
  uint64_t n_error;
} retort_test_filler;

static inline int retort_test_has(const retort_test_json* json, uint32_t node, const char* key,
                                  retort_json_value* out) {
  const retort_str name = {key, strlen(key)};
  return retort_test_json_member(NULL, (const retort_json_document*)json, node, name, out) ==
         RETORT_OK;
}

static inline int retort_test_refuse(retort_test_filler* f, retort_str key, const char* why) {
  snprintf(f->error, f->n_error, "/%.*s: %s", (int)key.len, key.ptr ? key.ptr : "", why);
  return 0;
}

static inline int retort_test_is(const retort_json_value* value, retort_str type) {
  static const char* const names[] = {"null", "boolean", "number", "string", "array", "object"};
  if (type.len == 7 && memcmp(type.ptr, "integer", 7) == 0) {
    return value->type == RETORT_JSON_NUMBER && (value->flags & RETORT_JSON_IS_INTEGER) != 0;
  }
  return type.len == strlen(names[value->type]) &&
         memcmp(type.ptr, names[value->type], type.len) == 0;
}

/* One member of the config against the schema of that key. */
static inline int retort_test_check_member(retort_test_filler* f, uint32_t property, retort_str key,
                                           const retort_json_value* value) {
  retort_json_value rule;
  if (retort_test_has(f->schema, property, "type", &rule) && rule.type == RETORT_JSON_STRING &&
      !retort_test_is(value, rule.text)) {
    return retort_test_refuse(f, key, "is of another type than the schema says");
  }
  if (retort_test_has(f->schema, property, "minimum", &rule) && value->number < rule.number) {
    return retort_test_refuse(f, key, "is below the minimum");
  }
  if (retort_test_has(f->schema, property, "maximum", &rule) && value->number > rule.number) {
    return retort_test_refuse(f, key, "is above the maximum");
  }
  return 1;
}

static inline void retort_test_append(retort_test_filler* f, const char* bytes, uint64_t n) {
  memcpy(f->out + f->n, bytes, n);
  f->n += n;
  f->out[f->n] = 0;
}

/* `"key": value`, both as they stand in their sources; ids of keys need no escapes. */
static inline void retort_test_append_member(retort_test_filler* f, retort_str key,
                                             const retort_test_json* json, uint32_t node) {
  const retort_test_node* n = &json->nodes[node];
  retort_test_append(f, f->n > 1 ? ", \"" : "\"", f->n > 1 ? 3 : 1);
  retort_test_append(f, key.ptr, key.len);
  retort_test_append(f, "\": ", 3);
  retort_test_append(f, json->source + n->begin, n->end - n->begin);
}

/* Every member of the config is known and fits. */
static inline int retort_test_check_members(retort_test_filler* f, uint32_t properties) {
  const retort_test_json* config = f->config;
  uint32_t child = retort_test_json_child(config, 0, 0);
  for (; child != 0; child = config->nodes[child].next) {
    const retort_str key = config->nodes[child].key;
    retort_json_value property;
    if (retort_test_json_member(NULL, (const retort_json_document*)f->schema, properties, key,
                                &property) != RETORT_OK) {
      return retort_test_refuse(f, key, "unknown key");
    }
    if (!retort_test_check_member(f, property.node, key, &config->nodes[child].value)) return 0;
    retort_test_append_member(f, key, config, child);
  }
  return 1;
}

/* Defaults for what the config lacks; what is required must be there. */
static inline int retort_test_add_defaults(retort_test_filler* f, uint32_t properties) {
  const retort_json_document* config = (const retort_json_document*)f->config;
  retort_json_value value, required;
  uint32_t child = retort_test_json_child(f->schema, properties, 0);
  for (; child != 0; child = f->schema->nodes[child].next) {
    const retort_str key = f->schema->nodes[child].key;
    if (retort_test_json_member(NULL, config, 0, key, &value) == RETORT_OK) continue;
    if (retort_test_has(f->schema, child, "default", &value)) {
      retort_test_append_member(f, key, f->schema, value.node);
    }
  }
  if (!retort_test_has(f->schema, 0, "required", &required)) return 1;
  child = retort_test_json_child(f->schema, required.node, 0);
  for (; child != 0; child = f->schema->nodes[child].next) {
    const retort_str key = f->schema->nodes[child].value.text;
    if (retort_test_json_member(NULL, config, 0, key, &value) != RETORT_OK) {
      return retort_test_refuse(f, key, "missing");
    }
  }
  return 1;
}

static inline int retort_test_fill_parsed(retort_test_filler* f) {
  const retort_str none = {NULL, 0};
  retort_json_value properties;
  f->out = (char*)malloc(2 * (f->schema->n_source + f->config->n_source) + 16);
  if (!f->out) return retort_test_refuse(f, none, "out of memory");
  retort_test_append(f, "{", 1);
  if (f->config->nodes[0].value.type != RETORT_JSON_OBJECT) {
    return retort_test_refuse(f, none, "the config must be an object");
  }
  if (!retort_test_has(f->schema, 0, "properties", &properties)) {
    properties.node = f->schema->n_nodes; /* none: every look-up fails */
  }
  if (!retort_test_check_members(f, properties.node)) return 0;
  if (!retort_test_add_defaults(f, properties.node)) return 0;
  retort_test_append(f, "}", 1);
  return 1;
}

/* *out: the config with its defaults, to be freed. schema NULL: no keys. */
static inline retort_status retort_test_fill(const char* schema, const char* config, char** out,
                                             char* error, uint64_t n_error) {
  const char* text = schema ? schema : "{}";
  const retort_str a = {text, strlen(text)}, b = {config, strlen(config)};
  retort_json_document *schema_json = NULL, *config_json = NULL;
  retort_test_filler f;
  char why[256] = "";
  memset(&f, 0, sizeof f);
  f.error = error;
  f.n_error = n_error;
  retort_status status = retort_test_json_parse(NULL, a, &schema_json, why);
  if (status == RETORT_OK) status = retort_test_json_parse(NULL, b, &config_json, why);
  if (status != RETORT_OK) {
    snprintf(error, n_error, "%s: %.200s", schema_json ? "config" : "config schema", why);
  } else {
    f.schema = (retort_test_json*)schema_json;
    f.config = (retort_test_json*)config_json;
    status = retort_test_fill_parsed(&f) ? RETORT_OK : RETORT_INVALID_ARGUMENT;
  }
  retort_test_json_free(NULL, schema_json);
  retort_test_json_free(NULL, config_json);
  if (status == RETORT_OK) {
    *out = f.out;
  } else {
    free(f.out);
  }
  return status;
}

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* RETORT_SDK_TESTING_SCHEMA_H_ */
