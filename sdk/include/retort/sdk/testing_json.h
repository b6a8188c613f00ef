// A small JSON reader for tests of plugins: the service "retort.host.json/1" as the host offers it,
// in plain C (and C++) without any library. It refuses what the host refuses (trailing bytes,
// duplicate keys, broken UTF-8, too much of anything), is not recursive, and is not made for speed.
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_SDK_TESTING_JSON_H_
#define RETORT_SDK_TESTING_JSON_H_

#include <errno.h>
#include <float.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "retort/abi/host.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RETORT_TEST_JSON_MAX_BYTES (UINT64_C(16) << 20)
#define RETORT_TEST_JSON_MAX_VALUES 1000000u
#define RETORT_TEST_JSON_MAX_DEPTH 64u
#define RETORT_TEST_JSON_MAX_MEMBERS 4096u /* of one object: duplicates are found by comparing */

/* Nodes in file order: a container's first child is the node after it. */
typedef struct retort_test_node {
  retort_json_value value;
  retort_str key;
  uint64_t begin, end; /* in the source */
  uint32_t next;       /* sibling; 0: the last */
  uint32_t last;       /* child so far; 0: none */
} retort_test_node;

typedef struct retort_test_json {
  char* source;  /* a copy */
  char* decoded; /* texts without escapes; no longer than the source */
  retort_test_node* nodes;
  uint64_t n_source, n_decoded;
  uint32_t n_nodes, capacity;
} retort_test_json;

typedef struct retort_test_parser {
  retort_test_json* json;
  uint64_t at;
  uint32_t stack[RETORT_TEST_JSON_MAX_DEPTH];
  uint32_t depth;
  retort_status status;
  const char* why;
} retort_test_parser;

static inline int retort_test_json_fail(retort_test_parser* p, retort_status status,
                                        const char* why) {
  p->status = status;
  p->why = why;
  return 0;
}
#define RETORT_TEST_JSON_BAD(p, why) retort_test_json_fail(p, RETORT_INVALID_ARGUMENT, why)

static inline unsigned char retort_test_json_peek(const retort_test_parser* p) {
  return p->at < p->json->n_source ? (unsigned char)p->json->source[p->at] : 0;
}

static inline void retort_test_json_space(retort_test_parser* p) {
  for (;;) {
    const unsigned char c = retort_test_json_peek(p);
    if (c != ' ' && c != '\t' && c != '\n' && c != '\r') return;
    ++p->at;
  }
}

/* Bytes of the UTF-8 sequence at s (n bytes left), or 0: broken. */
static inline unsigned retort_test_utf8_length(const char* text, uint64_t n) {
  const unsigned char* s = (const unsigned char*)text;
  const unsigned length = s[0] < 0x80 ? 1 : s[0] < 0xC2 ? 0 : s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : 4;
  if (length == 0 || s[0] > 0xF4 || length > n) return 0;
  for (unsigned i = 1; i < length; ++i) {
    if ((s[i] & 0xC0) != 0x80) return 0;
  }
  if (length == 3 && s[0] == 0xE0 && s[1] < 0xA0) return 0; /* overlong */
  if (length == 3 && s[0] == 0xED && s[1] > 0x9F) return 0; /* surrogate */
  if (length == 4 && s[0] == 0xF0 && s[1] < 0x90) return 0; /* overlong */
  if (length == 4 && s[0] == 0xF4 && s[1] > 0x8F) return 0; /* above U+10FFFF */
  return length;
}

static inline void retort_test_json_put(retort_test_json* json, uint32_t c) {
  char* out = json->decoded;
  uint64_t* n = &json->n_decoded;
  if (c < 0x80) {
    out[(*n)++] = (char)c;
  } else if (c < 0x800) {
    out[(*n)++] = (char)(0xC0 | c >> 6);
    out[(*n)++] = (char)(0x80 | (c & 63));
  } else if (c < 0x10000) {
    out[(*n)++] = (char)(0xE0 | c >> 12);
    out[(*n)++] = (char)(0x80 | (c >> 6 & 63));
    out[(*n)++] = (char)(0x80 | (c & 63));
  } else {
    out[(*n)++] = (char)(0xF0 | c >> 18);
    out[(*n)++] = (char)(0x80 | (c >> 12 & 63));
    out[(*n)++] = (char)(0x80 | (c >> 6 & 63));
    out[(*n)++] = (char)(0x80 | (c & 63));
  }
}

/* The four digits of \uXXXX. */
static inline int retort_test_json_hex(retort_test_parser* p, uint32_t* out) {
  *out = 0;
  for (int i = 0; i < 4; ++i, ++p->at) {
    const unsigned char c = retort_test_json_peek(p);
    const uint32_t digit = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                           : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
                           : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10)
                                                  : 16u;
    if (digit > 15) return RETORT_TEST_JSON_BAD(p, "\\u needs four hexadecimal digits");
    *out = *out * 16 + digit;
  }
  return 1;
}

static inline int retort_test_json_escape(retort_test_parser* p) {
  static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
  const unsigned char c = retort_test_json_peek(p);
  ++p->at;
  if (c != 'u') {
    const char* found = c == 0 ? NULL : strchr(from, c);
    if (!found) return RETORT_TEST_JSON_BAD(p, "unknown escape");
    retort_test_json_put(p->json, (uint32_t)to[found - from]);
    return 1;
  }
  uint32_t high, low;
  if (!retort_test_json_hex(p, &high)) return 0;
  if (high >= 0xDC00 && high < 0xE000) return RETORT_TEST_JSON_BAD(p, "lone surrogate");
  if (high >= 0xD800 && high < 0xDC00) {
    if (p->json->n_source - p->at < 6 || memcmp(p->json->source + p->at, "\\u", 2) != 0) {
      return RETORT_TEST_JSON_BAD(p, "lone surrogate");
    }
    p->at += 2;
    if (!retort_test_json_hex(p, &low)) return 0;
    if (low < 0xDC00 || low > 0xDFFF) return RETORT_TEST_JSON_BAD(p, "lone surrogate");
    high = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
  }
  retort_test_json_put(p->json, high);
  return 1;
}

static inline int retort_test_json_string(retort_test_parser* p, retort_str* out) {
  if (retort_test_json_peek(p) != '"') return RETORT_TEST_JSON_BAD(p, "a text should begin here");
  ++p->at;
  out->ptr = p->json->decoded + p->json->n_decoded;
  const uint64_t first = p->json->n_decoded;
  for (;;) {
    if (p->at >= p->json->n_source) return RETORT_TEST_JSON_BAD(p, "a text does not end");
    const unsigned char c = retort_test_json_peek(p);
    if (c == '"') break;
    if (c < 0x20) return RETORT_TEST_JSON_BAD(p, "control character in a text");
    if (c == '\\') {
      ++p->at;
      if (!retort_test_json_escape(p)) return 0;
      continue;
    }
    const char* s = p->json->source + p->at;
    const unsigned length = retort_test_utf8_length(s, p->json->n_source - p->at);
    if (length == 0) return RETORT_TEST_JSON_BAD(p, "broken UTF-8");
    memcpy(p->json->decoded + p->json->n_decoded, s, length);
    p->json->n_decoded += length;
    p->at += length;
  }
  ++p->at;
  out->len = p->json->n_decoded - first;
  return 1;
}

static inline int retort_test_json_digits(retort_test_parser* p) {
  const uint64_t first = p->at;
  while (retort_test_json_peek(p) >= '0' && retort_test_json_peek(p) <= '9') ++p->at;
  return p->at > first ? 1 : RETORT_TEST_JSON_BAD(p, "a digit is missing");
}

static inline int retort_test_json_number(retort_test_parser* p, retort_json_value* v) {
  const char* begin = p->json->source + p->at;
  int integer = 1;
  if (retort_test_json_peek(p) == '-') ++p->at;
  if (retort_test_json_peek(p) == '0') {
    ++p->at;
  } else if (!retort_test_json_digits(p)) {
    return 0;
  }
  if (retort_test_json_peek(p) == '.') {
    integer = 0;
    ++p->at;
    if (!retort_test_json_digits(p)) return 0;
  }
  if (retort_test_json_peek(p) == 'e' || retort_test_json_peek(p) == 'E') {
    integer = 0;
    ++p->at;
    if (retort_test_json_peek(p) == '+' || retort_test_json_peek(p) == '-') ++p->at;
    if (!retort_test_json_digits(p)) return 0;
  }
  v->type = RETORT_JSON_NUMBER;
  v->text.ptr = begin;
  v->text.len = (uint64_t)(p->json->source + p->at - begin);
  v->number = strtod(begin, NULL); /* the source ends with a NUL */
  if (v->number > DBL_MAX || v->number < -DBL_MAX) {
    return RETORT_TEST_JSON_BAD(p, "the number is too large");
  }
  errno = 0;
  v->integer = integer ? strtoll(begin, NULL, 10) : 0;
  if (integer && errno == 0) v->flags = RETORT_JSON_IS_INTEGER;
  return 1;
}

static inline int retort_test_json_word(retort_test_parser* p, const char* word) {
  const uint64_t n = strlen(word);
  if (p->json->n_source - p->at < n || memcmp(p->json->source + p->at, word, n) != 0) {
    return RETORT_TEST_JSON_BAD(p, "no JSON value begins here");
  }
  p->at += n;
  return 1;
}

static inline int retort_test_json_scalar(retort_test_parser* p, retort_json_value* v) {
  const unsigned char c = retort_test_json_peek(p);
  if (c == '"') {
    v->type = RETORT_JSON_STRING;
    return retort_test_json_string(p, &v->text);
  }
  if (c == '-' || (c >= '0' && c <= '9')) return retort_test_json_number(p, v);
  v->type = c == 'n' ? RETORT_JSON_NULL : RETORT_JSON_BOOL;
  v->integer = c == 't';
  return retort_test_json_word(p, c == 'n' ? "null" : c == 't' ? "true" : "false");
}

/* A node at the end, linked as the last child of the innermost container. */
static inline int retort_test_json_add(retort_test_parser* p, const retort_str* key) {
  retort_test_json* json = p->json;
  if (json->n_nodes >= RETORT_TEST_JSON_MAX_VALUES) {
    return retort_test_json_fail(p, RETORT_RESOURCE_EXHAUSTED, "too many values");
  }
  if (json->n_nodes == json->capacity) {
    const uint32_t capacity = json->capacity * 2 + 16;
    void* grown = realloc(json->nodes, capacity * sizeof(retort_test_node));
    if (!grown) return retort_test_json_fail(p, RETORT_RESOURCE_EXHAUSTED, "out of memory");
    json->nodes = (retort_test_node*)grown;
    json->capacity = capacity;
  }
  const uint32_t index = json->n_nodes++;
  memset(&json->nodes[index], 0, sizeof(retort_test_node));
  json->nodes[index].value.node = index;
  json->nodes[index].begin = p->at;
  json->nodes[index].key = *key;
  if (p->depth > 0) {
    retort_test_node* parent = &json->nodes[p->stack[p->depth - 1]];
    if (parent->last != 0) json->nodes[parent->last].next = index;
    parent->last = index;
    ++parent->value.size;
  }
  return 1;
}

static inline int retort_test_same(retort_str a, retort_str b) {
  return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* `"key" :`, not there yet. */
static inline int retort_test_json_key(retort_test_parser* p, retort_str* key) {
  const retort_test_json* json = p->json;
  const uint32_t parent = p->stack[p->depth - 1];
  if (!retort_test_json_string(p, key)) return 0;
  if (json->nodes[parent].value.size >= RETORT_TEST_JSON_MAX_MEMBERS) {
    return retort_test_json_fail(p, RETORT_RESOURCE_EXHAUSTED, "too many members");
  }
  uint32_t child = json->nodes[parent].value.size > 0 ? parent + 1 : 0;
  for (; child != 0; child = json->nodes[child].next) {
    if (retort_test_same(json->nodes[child].key, *key)) {
      return RETORT_TEST_JSON_BAD(p, "duplicate key");
    }
  }
  retort_test_json_space(p);
  if (retort_test_json_peek(p) != ':') return RETORT_TEST_JSON_BAD(p, "':' is missing");
  ++p->at;
  retort_test_json_space(p);
  return 1;
}

/* A value is complete: closes containers until another value must follow (1, *more 1) or all is
 * read (1, *more 0). */
static inline int retort_test_json_close(retort_test_parser* p, int* more) {
  for (*more = 0; p->depth > 0;) {
    retort_test_node* top = &p->json->nodes[p->stack[p->depth - 1]];
    const unsigned char end = top->value.type == RETORT_JSON_OBJECT ? '}' : ']';
    retort_test_json_space(p);
    const unsigned char c = retort_test_json_peek(p);
    if (c == ',') {
      ++p->at;
      *more = 1;
      return 1;
    }
    if (c != end) return RETORT_TEST_JSON_BAD(p, "',' or the end of an array or object is missing");
    top->end = ++p->at;
    --p->depth;
  }
  return 1;
}

/* One value: a scalar, or the begin of a container (*opened 1 if it has children). */
static inline int retort_test_json_value_at(retort_test_parser* p, int* opened) {
  retort_str key = {NULL, 0};
  *opened = 0;
  retort_test_json_space(p);
  if (p->depth > 0 && p->json->nodes[p->stack[p->depth - 1]].value.type == RETORT_JSON_OBJECT &&
      !retort_test_json_key(p, &key)) {
    return 0;
  }
  if (!retort_test_json_add(p, &key)) return 0;
  const uint32_t index = p->json->n_nodes - 1;
  const unsigned char c = retort_test_json_peek(p);
  if (c != '{' && c != '[') {
    if (!retort_test_json_scalar(p, &p->json->nodes[index].value)) return 0;
    p->json->nodes[index].end = p->at;
    return 1;
  }
  if (p->depth == RETORT_TEST_JSON_MAX_DEPTH) {
    return retort_test_json_fail(p, RETORT_RESOURCE_EXHAUSTED, "nested too deeply");
  }
  p->json->nodes[index].value.type = c == '{' ? RETORT_JSON_OBJECT : RETORT_JSON_ARRAY;
  ++p->at;
  retort_test_json_space(p);
  if (retort_test_json_peek(p) == (c == '{' ? '}' : ']')) {
    p->json->nodes[index].end = ++p->at;
    return 1;
  }
  p->stack[p->depth++] = index;
  *opened = 1;
  return 1;
}

static inline int retort_test_json_all(retort_test_parser* p) {
  int opened, more = 1;
  while (more) {
    if (!retort_test_json_value_at(p, &opened)) return 0;
    if (!opened && !retort_test_json_close(p, &more)) return 0;
  }
  retort_test_json_space(p);
  return p->at == p->json->n_source ? 1 : RETORT_TEST_JSON_BAD(p, "bytes after the value");
}

static inline void retort_test_json_free(void* ctx, retort_json_document* document) {
  retort_test_json* json = (retort_test_json*)document;
  (void)ctx;
  if (!json) return;
  free(json->source);
  free(json->decoded);
  free(json->nodes);
  free(json);
}

static inline retort_status retort_test_json_parse(void* ctx, retort_str text,
                                                   retort_json_document** out, char* error) {
  retort_test_parser p;
  memset(&p, 0, sizeof p);
  if (text.len > RETORT_TEST_JSON_MAX_BYTES) {
    if (error) snprintf(error, 256, "JSON: the text is too long");
    return RETORT_RESOURCE_EXHAUSTED;
  }
  p.json = (retort_test_json*)calloc(1, sizeof *p.json);
  if (!p.json) return RETORT_RESOURCE_EXHAUSTED;
  p.json->source = (char*)malloc(text.len + 1);
  p.json->decoded = (char*)malloc(text.len + 1);
  int good = 0;
  if (!p.json->source || !p.json->decoded) {
    retort_test_json_fail(&p, RETORT_RESOURCE_EXHAUSTED, "out of memory");
  } else {
    if (text.len > 0) memcpy(p.json->source, text.ptr, text.len);
    p.json->source[text.len] = 0;
    p.json->n_source = text.len;
    good = retort_test_json_all(&p);
  }
  if (good) {
    *out = (retort_json_document*)p.json;
    return RETORT_OK;
  }
  if (error) snprintf(error, 256, "JSON: byte %llu: %s", (unsigned long long)p.at, p.why);
  retort_test_json_free(ctx, (retort_json_document*)p.json);
  return p.status;
}

static inline retort_status retort_test_json_value(void* ctx, const retort_json_document* document,
                                                   uint32_t node, retort_json_value* out) {
  const retort_test_json* json = (const retort_test_json*)document;
  (void)ctx;
  if (node >= json->n_nodes) return RETORT_OUT_OF_RANGE;
  *out = json->nodes[node].value;
  return RETORT_OK;
}

/* Child number `index` of `node`, or 0. */
static inline uint32_t retort_test_json_child(const retort_test_json* json, uint32_t node,
                                              uint64_t index) {
  if (node >= json->n_nodes || index >= json->nodes[node].value.size) return 0;
  uint32_t child = node + 1;
  while (index-- > 0) child = json->nodes[child].next;
  return child;
}

static inline retort_status retort_test_json_member(void* ctx, const retort_json_document* document,
                                                    uint32_t node, retort_str key,
                                                    retort_json_value* out) {
  const retort_test_json* json = (const retort_test_json*)document;
  (void)ctx;
  if (node >= json->n_nodes || json->nodes[node].value.type != RETORT_JSON_OBJECT) {
    return RETORT_NOT_FOUND;
  }
  uint32_t child = retort_test_json_child(json, node, 0);
  for (; child != 0; child = json->nodes[child].next) {
    if (!retort_test_same(json->nodes[child].key, key)) continue;
    *out = json->nodes[child].value;
    return RETORT_OK;
  }
  return RETORT_NOT_FOUND;
}

static inline retort_status retort_test_json_element(void* ctx,
                                                     const retort_json_document* document,
                                                     uint32_t node, uint64_t index, retort_str* key,
                                                     retort_json_value* out) {
  const retort_test_json* json = (const retort_test_json*)document;
  const uint32_t child = retort_test_json_child(json, node, index);
  (void)ctx;
  if (child == 0) return RETORT_OUT_OF_RANGE;
  *out = json->nodes[child].value;
  if (key) *key = json->nodes[child].key;
  return RETORT_OK;
}

static const retort_host_json_v1 retort_test_json_table = {sizeof(retort_host_json_v1),
                                                           0,
                                                           NULL,
                                                           retort_test_json_parse,
                                                           retort_test_json_free,
                                                           retort_test_json_value,
                                                           retort_test_json_member,
                                                           retort_test_json_element};

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* RETORT_SDK_TESTING_JSON_H_ */
