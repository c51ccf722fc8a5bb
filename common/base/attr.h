/* SPDX-License-Identifier: Apache-2.0 */
/* attr: the only place where compiler extensions are spelled. */
#ifndef COMMON_BASE_ATTR_H
#define COMMON_BASE_ATTR_H

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(format_at, args_at) __attribute__((format(printf, format_at, args_at)))
#define NORETURN __attribute__((noreturn))
#define RETURNS_NONNULL __attribute__((returns_nonnull))
/* The function may use instructions that only some x86 processors have. */
#define TARGET_SSE42 __attribute__((target("sse4.2")))

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* The object of the given type whose member is at p. */
#define CONTAINER_OF(p, type, member) ((type *)(void *)((char *)(p)-offsetof(type, member)))

#endif
