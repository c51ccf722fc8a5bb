/* SPDX-License-Identifier: Apache-2.0 */
/* jail_build: whether this build goes behind a system call filter. */
#ifndef COMMON_PROC_JAIL_BUILD_H
#define COMMON_PROC_JAIL_BUILD_H

/* The sanitizers' run time makes system calls of its own choice. */
#if defined(__SANITIZE_ADDRESS__)
#define JAIL_HAS_SECCOMP 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define JAIL_HAS_SECCOMP 0
#else
#define JAIL_HAS_SECCOMP 1
#endif
#else
#define JAIL_HAS_SECCOMP 1
#endif

#endif
