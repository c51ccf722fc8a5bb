/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <lmdb.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/str.h"
#include "common/base/wire.h"
#include "common/db/suppress.h"

/*
 * Address space, not disk: the file grows with what is in it. Where so much is not to be had (a
 * limit on address space) half of it is tried, and so on. Never changed while the relay runs,
 * for that would need all readers to agree.
 */
#define MAP_MOST ((size_t)16 << 30)
#define MAP_LEAST ((size_t)64 << 20)
#define READERS_MAX 500u
/* Readers of other users write themselves into the lock file, and only there. */
#define FILE_MODE 0660
#define DATA_MODE 0640
#define PATH_MAX_BYTES 4096u
#define VALUE_VERSION 1u
#define VALUE_MAX ((size_t)8192)
/* Places of readers that died without a word are freed this often. */
#define READER_CHECK_MS 60000

struct suppress {
	MDB_env *env;
	MDB_dbi list;
	MDB_txn *read; /* kept and renewed for each look-up */
	bool is_reading;
	MDB_txn *write; /* since the first change after a commit */
	bool is_writer;
	int64_t readers_checked_ms;
};

static const char *const reason_names[] = {
	[SUPPRESS_UNKNOWN_USER] = "unknown-user",
	[SUPPRESS_MANUAL] = "manual",
	[SUPPRESS_COMPLAINT] = "complaint",
	[SUPPRESS_UNSUBSCRIBE] = "unsubscribe",
};

const char *suppress_reason_name(enum suppress_reason r)
{
	const char *name = NULL;

	if ((unsigned)r < sizeof(reason_names) / sizeof(reason_names[0])) {
		name = reason_names[r];
	}
	return name == NULL ? "unknown" : name;
}

/* LMDB's codes are negative, those of the system positive. */
static enum err from_mdb(int code)
{
	switch (code) {
	case MDB_SUCCESS:
		return ERR_OK;
	case MDB_NOTFOUND:
		return ERR_NOTFOUND;
	case MDB_MAP_FULL:
	case MDB_TXN_FULL:
	case MDB_READERS_FULL:
	case MDB_DBS_FULL:
		return ERR_FULL;
	case MDB_CORRUPTED:
	case MDB_PAGE_NOTFOUND:
	case MDB_INVALID:
	case MDB_VERSION_MISMATCH:
	case MDB_INCOMPATIBLE:
	case MDB_BAD_VALSIZE:
		return ERR_CORRUPT;
	default:
		break;
	}
	if (code > 0) {
		errno = code;
		return err_from_errno();
	}
	return ERR_LIB;
}

/* The same where ERR_NOTFOUND would be believed. */
static enum err from_mdb_unsure(int code)
{
	enum err e = from_mdb(code);

	return e == ERR_NOTFOUND ? ERR_LIB : e;
}

/* ---- opening ---- */

static enum err open_env(const char *path, bool writer, size_t map_bytes, MDB_env **out)
{
	MDB_env *env = NULL;
	int code = mdb_env_create(&env);

	if (code == MDB_SUCCESS) {
		code = mdb_env_set_mapsize(env, map_bytes);
	}
	if (code == MDB_SUCCESS) {
		code = mdb_env_set_maxreaders(env, READERS_MAX);
	}
	if (code == MDB_SUCCESS) {
		mode_t old = umask(0);
		/* A read transaction belongs to its handle, not to the thread: a writer looks
		 * things up too. */
		code = mdb_env_open(env, path, MDB_NOTLS | (writer ? 0 : MDB_RDONLY),
			FILE_MODE);
		(void)umask(old);
	}
	if (code != MDB_SUCCESS) {
		mdb_env_close(env);
		return from_mdb(code);
	}
	*out = env;
	return ERR_OK;
}

static enum err open_with_any_map(const char *path, bool writer, MDB_env **out)
{
	enum err e = ERR_SYS;

	for (size_t n = MAP_MOST; n >= MAP_LEAST; n /= 2) {
		e = open_env(path, writer, n, out);
		if (e != ERR_SYS || errno != ENOMEM) {
			break;
		}
	}
	return e;
}

/* Reading a page that the file has lost would end the process. */
static enum err check_size(MDB_env *env)
{
	MDB_envinfo about;
	MDB_stat pages;
	struct stat st;
	int fd = -1;
	int code = mdb_env_info(env, &about);

	if (code == MDB_SUCCESS) {
		code = mdb_env_stat(env, &pages);
	}
	if (code == MDB_SUCCESS) {
		code = mdb_env_get_fd(env, &fd);
	}
	if (code != MDB_SUCCESS) {
		return from_mdb_unsure(code);
	}
	if (fstat(fd, &st) != 0) {
		return err_from_errno();
	}
	if ((uint64_t)st.st_size / pages.ms_psize <= about.me_last_pgno) {
		return ERR_CORRUPT;
	}
	return ERR_OK;
}

/* Nobody else writes to the list itself. */
static void set_mode(MDB_env *env)
{
	int fd = -1;

	if (mdb_env_get_fd(env, &fd) == MDB_SUCCESS) {
		(void)fchmod(fd, DATA_MODE); /* fails when they are another user's */
	}
}

/* A reader that looks for itself leaves no lock file of its own making behind. That it may not
 * look is not that there is nothing. */
static enum err list_look(const char *path)
{
	char file[PATH_MAX_BYTES];
	struct stat st;

	enum err e = str_format(file, sizeof(file), "%s/data.mdb", path);
	return e == ERR_OK && stat(file, &st) != 0 ? err_from_errno() : e;
}

enum err suppress_open(const char *path, bool writer, struct suppress **out)
{
	if (!writer) {
		enum err missing = list_look(path);
		if (missing != ERR_OK) {
			return missing;
		}
	}
	struct suppress *s = alloc_zero(1, sizeof(*s));
	enum err e = open_with_any_map(path, writer, &s->env);

	s->is_writer = writer;
	if (e == ERR_OK && writer) {
		set_mode(s->env);
		(void)mdb_reader_check(s->env, NULL);
		s->readers_checked_ms = clock_mono_ms();
	}
	if (e == ERR_OK) {
		e = check_size(s->env);
	}
	if (e == ERR_OK) {
		e = from_mdb_unsure(mdb_txn_begin(s->env, NULL, MDB_RDONLY, &s->read));
	}
	if (e == ERR_OK) {
		/* The one unnamed database: its handle needs no commit to last. */
		e = from_mdb_unsure(mdb_dbi_open(s->read, NULL, 0, &s->list));
	}
	if (e != ERR_OK) {
		int saved = errno;
		suppress_close(&s);
		errno = saved;
		return e;
	}
	mdb_txn_reset(s->read);
	*out = s;
	return ERR_OK;
}

void suppress_close(struct suppress **s)
{
	if (*s == NULL) {
		return;
	}
	if ((*s)->write != NULL) {
		mdb_txn_abort((*s)->write);
	}
	if ((*s)->read != NULL) {
		mdb_txn_abort((*s)->read);
	}
	if ((*s)->env != NULL) {
		mdb_env_close((*s)->env);
	}
	ALLOC_FREE(*s);
}

/* ---- keys and values ---- */

struct key {
	uint8_t bytes[LIMIT_ADDRESS];
	MDB_val val;
};

static bool make_key(struct slice address, struct key *out)
{
	if (address.n == 0 || address.n > sizeof(out->bytes)) {
		return false;
	}
	for (size_t i = 0; i < address.n; i++) {
		out->bytes[i] = ascii_lower(address.p[i]);
	}
	out->val = (MDB_val){.mv_size = address.n, .mv_data = out->bytes};
	return true;
}

static enum err value_encode(const struct suppress_entry *e, struct buf *to)
{
	struct wire_writer w = wire_begin(to);

	wire_put_u8(&w, VALUE_VERSION, VALUE_VERSION);
	wire_put_u8(&w, e->reason, UINT8_MAX);
	wire_put_i64(&w, e->first_us, INT64_MAX);
	wire_put_i64(&w, e->last_us, INT64_MAX);
	wire_put_u32(&w, e->count, UINT32_MAX);
	wire_put_u8(&w, e->stage, UINT8_MAX);
	wire_put_u16(&w, e->smtp_code, UINT16_MAX);
	wire_put_str(&w, e->address, LIMIT_ADDRESS);
	wire_put_str(&w, e->text, LIMIT_REPLY_TEXT);
	wire_put_str(&w, e->host, LIMIT_HOSTNAME);
	wire_put_str(&w, e->queue_id, LIMIT_QUEUE_ID);
	wire_put_str(&w, e->tenant, LIMIT_TENANT);
	return wire_end(&w);
}

static enum err value_decode(struct slice bytes, struct suppress_entry *out)
{
	struct wire_reader r = {.left = bytes, .err = ERR_OK};

	if (wire_get_u8(&r, UINT8_MAX) != VALUE_VERSION) {
		return ERR_CORRUPT;
	}
	struct suppress_entry e = {.reason = wire_get_u8(&r, UINT8_MAX)};
	e.first_us = wire_get_i64(&r, INT64_MAX);
	e.last_us = wire_get_i64(&r, INT64_MAX);
	e.count = wire_get_u32(&r, UINT32_MAX);
	e.stage = wire_get_u8(&r, UINT8_MAX);
	e.smtp_code = wire_get_u16(&r, UINT16_MAX);
	e.address = wire_get_str(&r, LIMIT_ADDRESS);
	e.text = wire_get_str(&r, LIMIT_REPLY_TEXT);
	e.host = wire_get_str(&r, LIMIT_HOSTNAME);
	e.queue_id = wire_get_str(&r, LIMIT_QUEUE_ID);
	e.tenant = wire_get_str(&r, LIMIT_TENANT);
	if (wire_finish(&r) != ERR_OK) {
		return ERR_CORRUPT;
	}
	*out = e;
	return ERR_OK;
}

/* ---- reading ---- */

void suppress_read_end(struct suppress *s)
{
	if (s->is_reading) {
		mdb_txn_reset(s->read);
		s->is_reading = false;
	}
}

/* The transaction to look things up in: the writer sees its own changes. */
static enum err begin_read(struct suppress *s, MDB_txn **out)
{
	suppress_read_end(s);
	if (s->write != NULL) {
		*out = s->write;
		return ERR_OK;
	}
	enum err e = from_mdb_unsure(mdb_txn_renew(s->read));
	if (e == ERR_OK) {
		s->is_reading = true;
		*out = s->read;
	}
	return e;
}

enum err suppress_find(struct suppress *s, struct slice address, struct suppress_entry *out)
{
	MDB_txn *txn = NULL;
	struct key key;
	MDB_val val;

	if (!make_key(address, &key)) {
		return ERR_NOTFOUND; /* no such address can be on the list */
	}
	enum err e = begin_read(s, &txn);
	if (e != ERR_OK) {
		return e;
	}
	int code = mdb_get(txn, s->list, &key.val, &val);
	if (code == MDB_NOTFOUND) {
		return ERR_NOTFOUND;
	}
	e = from_mdb_unsure(code);
	return e == ERR_OK ? value_decode(slice_make(val.mv_data, val.mv_size), out) : e;
}

static enum err find_after(struct suppress *s, MDB_txn *txn, struct slice after, MDB_val *value)
{
	MDB_cursor *cursor = NULL;
	struct key key;
	MDB_val found;
	int code = mdb_cursor_open(txn, s->list, &cursor);

	if (code != MDB_SUCCESS) {
		return from_mdb_unsure(code);
	}
	if (!make_key(after, &key)) {
		code = mdb_cursor_get(cursor, &found, value, MDB_FIRST);
	} else {
		found = key.val;
		code = mdb_cursor_get(cursor, &found, value, MDB_SET_RANGE);
		if (code == MDB_SUCCESS && slice_eq(slice_make(found.mv_data, found.mv_size),
						   slice_make(key.bytes, after.n))) {
			code = mdb_cursor_get(cursor, &found, value, MDB_NEXT);
		}
	}
	mdb_cursor_close(cursor);
	return code > 0 ? from_mdb_unsure(code) : from_mdb(code);
}

static bool copy_entry(struct arena *a, struct suppress_entry *e)
{
	return arena_copy(a, e->address, &e->address) && arena_copy(a, e->text, &e->text) &&
	       arena_copy(a, e->host, &e->host) && arena_copy(a, e->queue_id, &e->queue_id) &&
	       arena_copy(a, e->tenant, &e->tenant);
}

enum err suppress_next(struct suppress *s, struct slice after, struct arena *a,
	struct suppress_entry *out)
{
	struct suppress_entry entry = {.reason = 0};
	MDB_txn *txn = NULL;
	MDB_val val = {.mv_size = 0};

	if (after.n > LIMIT_ADDRESS) {
		return ERR_TOOBIG;
	}
	enum err e = begin_read(s, &txn);
	if (e == ERR_OK) {
		e = find_after(s, txn, after, &val);
	}
	if (e == ERR_OK) {
		e = value_decode(slice_make(val.mv_data, val.mv_size), &entry);
	}
	if (e == ERR_OK && !copy_entry(a, &entry)) {
		e = ERR_TOOBIG;
	}
	/* A listing may take long; the writer must not wait for its pages meanwhile. */
	suppress_read_end(s);
	if (e == ERR_OK) {
		*out = entry;
	}
	return e;
}

uint64_t suppress_count(struct suppress *s)
{
	MDB_txn *txn = NULL;
	MDB_stat about = {.ms_entries = 0};

	if (begin_read(s, &txn) != ERR_OK) {
		return 0;
	}
	(void)mdb_stat(txn, s->list, &about);
	suppress_read_end(s);
	return about.ms_entries;
}

/* ---- writing ---- */

static enum err begin_write(struct suppress *s)
{
	assert(s->is_writer);
	suppress_read_end(s);
	if (s->write != NULL) {
		return ERR_OK;
	}
	return from_mdb_unsure(mdb_txn_begin(s->env, NULL, 0, &s->write));
}

/* LMDB gives no promise for a transaction of which a step failed. */
static void give_up_write(struct suppress *s)
{
	int saved = errno;

	mdb_txn_abort(s->write);
	s->write = NULL;
	errno = saved;
}

enum err suppress_put(struct suppress *s, const struct suppress_entry *entry)
{
	struct key key;
	struct buf value;

	if (!make_key(entry->address, &key)) {
		return entry->address.n == 0 ? ERR_SYNTAX : ERR_TOOBIG;
	}
	/* Before anything else: the entry may lie in the map. */
	buf_init(&value, VALUE_MAX);
	enum err e = value_encode(entry, &value);
	if (e == ERR_OK) {
		e = begin_write(s);
	}
	if (e == ERR_OK) {
		MDB_val val = {.mv_size = buf_len(&value), .mv_data = value.data + value.start};
		e = from_mdb_unsure(mdb_put(s->write, s->list, &key.val, &val, 0));
		if (e != ERR_OK) {
			give_up_write(s);
		}
	}
	buf_clear(&value);
	return e;
}

enum err suppress_remove(struct suppress *s, struct slice address)
{
	struct key key;

	if (!make_key(address, &key)) {
		return ERR_NOTFOUND;
	}
	enum err e = begin_write(s);
	if (e != ERR_OK) {
		return e;
	}
	int code = mdb_del(s->write, s->list, &key.val, NULL);
	if (code == MDB_NOTFOUND) {
		return ERR_NOTFOUND;
	}
	e = from_mdb_unsure(code);
	if (e != ERR_OK) {
		give_up_write(s);
	}
	return e;
}

enum err suppress_commit(struct suppress *s)
{
	int64_t now = clock_mono_ms();

	if (s->write == NULL) {
		return ERR_OK;
	}
	int code = mdb_txn_commit(s->write);
	s->write = NULL; /* gone also when it failed */
	if (now - s->readers_checked_ms >= READER_CHECK_MS) {
		s->readers_checked_ms = now;
		(void)mdb_reader_check(s->env, NULL);
	}
	return from_mdb_unsure(code);
}
