/* SPDX-License-Identifier: Apache-2.0 */
/*
 * err: how a function of ours failed.
 *
 * What a remote server or a recipient's address earned is a verdict
 * (common/mail/verdict.h), never an err.
 */
#ifndef COMMON_BASE_ERR_H
#define COMMON_BASE_ERR_H

enum err {
	ERR_OK,
	ERR_SYS,      /* a system call failed; errno is as it left it */
	ERR_TOOBIG,   /* does not fit under its stated maximum */
	ERR_SYNTAX,   /* text that its grammar does not allow */
	ERR_PROTO,    /* a peer process broke the message format or order */
	ERR_CONFIG,   /* a setting that cannot be obeyed */
	ERR_DENIED,   /* not allowed */
	ERR_NOTFOUND, /* no such thing */
	ERR_EXISTS,   /* already there */
	ERR_CORRUPT,  /* stored bytes do not match their checksum or format */
	ERR_FULL,     /* no room: disk, table or queue */
	ERR_AGAIN,    /* nothing can be done now; try later */
	ERR_CLOSED,   /* the other side is gone */
	ERR_TIMEOUT,
	ERR_TLS,
	ERR_LIB, /* a library refused; it has been logged or is in the out text */
	ERR_COUNT
};

/* A short English phrase, never null. */
const char *err_str(enum err e);

/* ENOSPC, EDQUOT: ERR_FULL; EAGAIN: ERR_AGAIN; ENOENT: ERR_NOTFOUND; EEXIST: ERR_EXISTS;
 * EACCES, EPERM: ERR_DENIED; EPIPE, ECONNRESET: ERR_CLOSED; else ERR_SYS. */
enum err err_from_errno(void);

#endif
