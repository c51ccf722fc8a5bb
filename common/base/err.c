/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stddef.h>

#include "common/base/attr.h"
#include "common/base/err.h"

static const char *const phrases[] = {
	[ERR_OK] = "no error",
	[ERR_SYS] = "a system call failed",
	[ERR_TOOBIG] = "larger than its maximum",
	[ERR_SYNTAX] = "not well-formed",
	[ERR_PROTO] = "a program broke the message format",
	[ERR_CONFIG] = "a setting that cannot be obeyed",
	[ERR_DENIED] = "not allowed",
	[ERR_NOTFOUND] = "no such thing",
	[ERR_EXISTS] = "already there",
	[ERR_CORRUPT] = "stored bytes are damaged",
	[ERR_FULL] = "no room left",
	[ERR_AGAIN] = "not possible now, try later",
	[ERR_CLOSED] = "the other side is gone",
	[ERR_TIMEOUT] = "took too long",
	[ERR_TLS] = "TLS failed",
	[ERR_LIB] = "a library refused",
};
static_assert(ARRAY_LEN(phrases) == ERR_COUNT, "one phrase an error");

const char *err_str(enum err e)
{
	return (unsigned)e < ERR_COUNT ? phrases[e] : "unknown error";
}

enum err err_from_errno(void)
{
	switch (errno) {
	case ENOSPC:
	case EDQUOT:
		return ERR_FULL;
	case EAGAIN:
		return ERR_AGAIN;
	case ENOENT:
		return ERR_NOTFOUND;
	case EEXIST:
		return ERR_EXISTS;
	case EACCES:
	case EPERM:
		return ERR_DENIED;
	case EPIPE:
	case ECONNRESET:
		return ERR_CLOSED;
	default:
		return ERR_SYS;
	}
}
