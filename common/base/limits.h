/* SPDX-License-Identifier: Apache-2.0 */
/*
 * limits: the largest of everything that a peer or another process can make us hold.
 *
 * A field of a message between programs names one of these as its maximum, and the
 * decoder enforces it.
 */
#ifndef COMMON_BASE_LIMITS_H
#define COMMON_BASE_LIMITS_H

#define LIMIT_FRAME_BYTES 65536u   /* one frame between programs, header included */
#define LIMIT_CHUNK_BYTES 61440u   /* message content or file content in one frame */
#define LIMIT_HOSTNAME 255u        /* RFC 1035 section 2.3.4 */
#define LIMIT_LOCAL_PART 64u       /* RFC 5321 section 4.5.3.1.1 */
#define LIMIT_ADDRESS 320u         /* local part, @, domain */
#define LIMIT_REPLY_TEXT 2048u     /* what is kept of a remote server's reply */
#define LIMIT_ENVID 100u           /* RFC 3461 section 4.4 */
#define LIMIT_ORCPT 500u           /* RFC 3461 section 4.2 */
#define LIMIT_QUEUE_ID 24u         /* text of a queue id */
#define LIMIT_HEADER_BLOCK 131072u /* all header lines of one message */
#define LIMIT_HEADER_LINES 2000u
#define LIMIT_RCPTS 1000000u  /* recipients of one message */
#define LIMIT_ROUTE_ADDRS 64u /* addresses of one route */
#define LIMIT_PARAM_NAME 128u
#define LIMIT_PARAM_VALUE 32768u
#define LIMIT_TEXT 1024u /* explanations for people */
#define LIMIT_TENANT 64u
#define LIMIT_NAME 128u /* helo name, listener name, cipher, login */

#endif
