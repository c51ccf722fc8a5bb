/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schema: every parameter, once: name, type, default, which programs see it, what it means.
 *
 * It yields the parser's checks, `ekiden conf`, docs/CONFIGURATION.md's check and the typed
 * getters of conf.h. Names, units and meanings are Postfix's where Postfix has the parameter.
 *
 * Types: STR any text; BOOL yes/no; COUNT a number; BYTES a number of bytes; TIME with a unit
 * (s m h d w; without one, that of the default); LIST of words; CIDR a list of networks; ENUM
 * one of the words in the range column; FILE a path whose content travels to the programs;
 * TABLE "type:name" whose content travels to the programs; ENDPOINTS a list of ADDRESS@PORT.
 * The range column: "MIN..MAX" for numbers and times (may be ""), "a|b|c" for ENUM.
 * LOCALSTATEDIR is the build's, and only schema.c needs to know it.
 */
#ifndef COMMON_CONF_SCHEMA_H
#define COMMON_CONF_SCHEMA_H

#define SEES_MASTER 1u
#define SEES_SMTPD 2u
#define SEES_CLEANUP 4u
#define SEES_QMGR 8u
#define SEES_RESOLVE 16u
#define SEES_OUT 32u
#define SEES_BOUNCE 64u
#define SEES_ALL 127u

/* clang-format off */
#define CONF_SCHEMA(P) \
	/* identity */ \
	P(compatibility_level, STR, "3.6", "", SEES_MASTER, "accepted for Postfix's sake; the defaults here do not depend on it") \
	P(myhostname, STR, "", "", SEES_ALL, "name of this host: greeting, EHLO, Received, Message-ID; default: the system's, completed by mydomain") \
	P(mydomain, STR, "", "", SEES_ALL, "myhostname without its first label") \
	P(myorigin, STR, "$myhostname", "", SEES_SMTPD, "domain for addresses without one; a path means the first line of that file") \
	P(mydestination, LIST, "", "", SEES_SMTPD, "domains delivered here: a relay has none") \
	P(mail_name, STR, "Ekiden", "", SEES_SMTPD | SEES_CLEANUP, "product name in greeting and Received") \
	P(mail_version, STR, "0.1.0", "", SEES_ALL, "version, for $mail_version") \
	/* network and trust */ \
	P(inet_interfaces, LIST, "all", "", SEES_MASTER, "addresses that master.cf services without one listen on: all, loopback-only, or a list") \
	P(inet_protocols, LIST, "all", "", SEES_MASTER | SEES_RESOLVE | SEES_OUT, "all, ipv4, ipv6") \
	P(mynetworks, CIDR, "127.0.0.0/8 [::1]/128", "", SEES_SMTPD, "clients that may relay") \
	/* routing */ \
	P(relayhost, STR, "", "", SEES_QMGR, "next hop for everything not in transport_maps: domain, [host], [host]:port") \
	P(transport_maps, TABLE, "", "", SEES_QMGR, "recipient or domain to transport:nexthop") \
	P(dns_servers, ENDPOINTS, "", "", SEES_RESOLVE, "name servers to ask; empty: those of /etc/resolv.conf") \
	P(dns_trust_anchor, FILE, "/usr/share/dns/root.key", "", SEES_RESOLVE, "DNSSEC trust anchor; empty: no validation") \
	P(smtp_forbidden_destinations, CIDR, "0.0.0.0/8 127.0.0.0/8 169.254.0.0/16 224.0.0.0/4 240.0.0.0/4 [::]/128 [::1]/128 [fe80::]/10 [ff00::]/8", "", SEES_RESOLVE | SEES_OUT, "addresses never connected to, however a name led there; our own listeners are always added") \
	/* the SMTP server */ \
	P(smtpd_banner, STR, "$myhostname ESMTP $mail_name", "", SEES_SMTPD, "greeting behind 220") \
	P(smtpd_relay_restrictions, LIST, "permit_mynetworks, reject_unauth_destination", "", SEES_SMTPD, "who may relay: permit_mynetworks, permit, reject, defer, reject_unauth_destination, defer_unauth_destination") \
	P(smtpd_helo_required, BOOL, "yes", "", SEES_SMTPD, "MAIL needs HELO or EHLO before") \
	P(smtpd_forbid_bare_newline, ENUM, "normalize", "yes|no|normalize|reject", SEES_SMTPD, "what a lone CR or LF in content earns: reject (550 and close), normalize (becomes CR LF); yes is normalize") \
	P(smtpd_forbid_unauth_pipelining, BOOL, "yes", "", SEES_SMTPD, "clients that talk before their turn are dropped") \
	P(smtpd_discard_ehlo_keywords, LIST, "", "", SEES_SMTPD, "EHLO keywords not offered") \
	P(disable_vrfy_command, BOOL, "no", "", SEES_SMTPD, "VRFY answers 502") \
	P(smtpd_recipient_limit, COUNT, "1000", "1..1000000", SEES_SMTPD, "recipients of one message") \
	P(smtpd_timeout, TIME, "300s", "1s..1h", SEES_SMTPD, "for a client's next command or data") \
	P(smtpd_starttls_timeout, TIME, "300s", "1s..1h", SEES_SMTPD, "for a client's TLS handshake") \
	P(smtpd_command_time_limit, TIME, "600s", "1s..1h", SEES_SMTPD, "for one whole command line") \
	P(smtpd_data_time_limit, TIME, "3600s", "10s..1d", SEES_SMTPD, "for one whole message") \
	P(smtpd_min_data_rate, COUNT, "100", "0..1000000000", SEES_SMTPD, "bytes a second that a client must sustain in DATA, judged over a minute; 0: any") \
	P(smtpd_soft_error_limit, COUNT, "10", "1..1000000", SEES_SMTPD, "errors before replies are delayed") \
	P(smtpd_hard_error_limit, COUNT, "20", "1..1000000", SEES_SMTPD, "errors before 421") \
	P(smtpd_error_sleep_time, TIME, "1s", "0s..60s", SEES_SMTPD, "delay of replies past the soft limit") \
	P(smtpd_junk_command_limit, COUNT, "100", "1..1000000", SEES_SMTPD, "NOOP, RSET, VRFY and the like before they count as errors") \
	P(smtpd_client_connection_count_limit, COUNT, "50", "0..1000000", SEES_SMTPD, "connections of one client at once, per smtpd process; 0: any") \
	P(smtpd_client_event_limit_exceptions, CIDR, "$mynetworks", "", SEES_SMTPD, "clients without that limit") \
	P(smtpd_connection_limit, COUNT, "15000", "1..1000000", SEES_SMTPD, "connections at once, per smtpd process") \
	P(smtpd_transaction_limit, COUNT, "0", "0..1000000000", SEES_SMTPD, "messages of one connection; 0: any") \
	P(smtpd_drain_time, TIME, "30s", "0s..1h", SEES_MASTER, "for running transactions when the relay stops") \
	P(message_size_limit, BYTES, "10240000", "0..17179869184", SEES_SMTPD | SEES_CLEANUP, "largest message; 0: 16 GiB") \
	P(hopcount_limit, COUNT, "50", "1..10000", SEES_CLEANUP, "Received fields before a message counts as looping") \
	P(queue_minfree, BYTES, "0", "", SEES_CLEANUP, "bytes that must stay free on the queue's file system; 0: 32 MiB or 1.5 times message_size_limit, whichever is larger, but never over a tenth of it") \
	P(smtpd_tls_security_level, ENUM, "", "|none|may|encrypt", SEES_SMTPD, "none, may, encrypt") \
	P(smtpd_tls_cert_file, FILE, "", "", SEES_SMTPD, "certificate chain, PEM") \
	P(smtpd_tls_key_file, FILE, "$smtpd_tls_cert_file", "", SEES_SMTPD, "its key") \
	P(smtpd_tls_protocols, STR, ">=TLSv1.2", "", SEES_SMTPD, "TLS versions: >=TLSv1.2, <=TLSv1.3, or Postfix's list of !SSLv3 words") \
	P(smtpd_tls_ciphers, ENUM, "medium", "high|medium|low|export|null", SEES_SMTPD, "cipher grade") \
	P(smtpd_tls_received_header, BOOL, "yes", "", SEES_CLEANUP, "TLS facts in Received") \
	/* cleanup */ \
	P(dkim_keys, TABLE, "", "", SEES_CLEANUP, "From domain (parents searched) to selector:keyfile list; the key files travel too") \
	P(dkim_canonicalization, ENUM, "relaxed/simple", "relaxed/simple|relaxed/relaxed|simple/simple|simple/relaxed", SEES_CLEANUP, "header/body") \
	P(dkim_required, BOOL, "no", "", SEES_CLEANUP, "refuse mail that no key covers (550 5.7.20)") \
	P(suppression_action, ENUM, "reject", "reject|discard|off", SEES_SMTPD | SEES_CLEANUP | SEES_BOUNCE, "what RCPT to a suppressed address earns") \
	P(always_add_missing_headers, BOOL, "yes", "", SEES_CLEANUP, "add Date and Message-ID where they are missing") \
	/* queue */ \
	P(maximal_queue_lifetime, TIME, "5d", "0s..100d", SEES_QMGR, "age at which mail is returned") \
	P(bounce_queue_lifetime, TIME, "5d", "0s..100d", SEES_QMGR, "the same for notices (null sender)") \
	P(delay_warning_time, TIME, "4h", "0s..100d", SEES_QMGR, "age at which a sender that asked for it (NOTIFY=DELAY) is told that the message still waits; 0: never") \
	P(minimal_backoff_time, TIME, "300s", "1s..1d", SEES_QMGR, "first wait after a temporary failure; it doubles") \
	P(maximal_backoff_time, TIME, "4000s", "1s..10d", SEES_QMGR, "longest wait") \
	P(default_destination_concurrency_limit, COUNT, "20", "1..10000", SEES_QMGR, "connections to one site at once") \
	P(initial_destination_concurrency, COUNT, "5", "1..10000", SEES_QMGR, "with how many a site begins") \
	P(default_destination_rate_delay, TIME, "0s", "0s..1d", SEES_QMGR, "least time between two deliveries to one site") \
	P(default_destination_recipient_limit, COUNT, "50", "1..1000", SEES_QMGR, "recipients of one transaction") \
	P(qmgr_active_limit, COUNT, "50000", "100..10000000", SEES_QMGR, "recipients held in memory with their envelope; the others wait at some 40 bytes each") \
	P(smtp_connection_total_limit, COUNT, "10000", "1..100000", SEES_QMGR | SEES_OUT, "outgoing connections in all, for each smtp-out at most half its descriptors") \
	P(soft_bounce, BOOL, "no", "", SEES_QMGR, "permanent failures count as temporary (tests)") \
	/* the SMTP client */ \
	P(smtp_helo_name, STR, "$myhostname", "", SEES_OUT, "EHLO name") \
	P(smtp_bind_address, STR, "", "", SEES_OUT, "IPv4 source address") \
	P(smtp_bind_address6, STR, "", "", SEES_OUT, "IPv6 source address") \
	P(smtp_address_preference, ENUM, "any", "any|ipv4|ipv6", SEES_RESOLVE, "which family first among equals") \
	P(smtp_mx_address_limit, COUNT, "5", "1..64", SEES_OUT, "addresses tried in one attempt") \
	P(smtp_connect_timeout, TIME, "30s", "1s..1h", SEES_OUT, "TCP connect") \
	P(smtp_helo_timeout, TIME, "300s", "1s..1h", SEES_OUT, "greeting, EHLO") \
	P(smtp_starttls_timeout, TIME, "300s", "1s..1h", SEES_OUT, "STARTTLS and handshake") \
	P(smtp_mail_timeout, TIME, "300s", "1s..1h", SEES_OUT, "reply to MAIL") \
	P(smtp_rcpt_timeout, TIME, "300s", "1s..1h", SEES_OUT, "reply to RCPT") \
	P(smtp_data_init_timeout, TIME, "120s", "1s..1h", SEES_OUT, "reply to DATA") \
	P(smtp_data_xfer_timeout, TIME, "180s", "1s..1h", SEES_OUT, "for the peer to take more content") \
	P(smtp_data_done_timeout, TIME, "600s", "1s..1h", SEES_OUT, "reply to the final dot") \
	P(smtp_rset_timeout, TIME, "20s", "1s..1h", SEES_OUT, "reply to RSET") \
	P(smtp_quit_timeout, TIME, "10s", "0s..1h", SEES_OUT, "reply to QUIT; nothing waits for it") \
	P(smtp_connection_cache_time_limit, TIME, "2s", "0s..1h", SEES_OUT, "how long an idle connection is kept") \
	P(smtp_connection_reuse_time_limit, TIME, "300s", "1s..1d", SEES_OUT, "longest life of a connection") \
	P(smtp_connection_reuse_count_limit, COUNT, "0", "0..1000000", SEES_OUT, "messages of one connection; 0: any") \
	P(smtp_tls_security_level, ENUM, "may", "|none|may|encrypt|verify|secure", SEES_QMGR, "TLS towards receivers") \
	P(smtp_tls_CAfile, FILE, "/etc/ssl/certs/ca-certificates.crt", "", SEES_OUT, "trust anchors; a missing file means none") \
	P(smtp_tls_protocols, STR, ">=TLSv1.2", "", SEES_OUT, "TLS versions") \
	P(smtp_tls_ciphers, ENUM, "medium", "high|medium|low|export|null", SEES_OUT, "cipher grade") \
	P(smtp_skip_5xx_greeting, BOOL, "yes", "", SEES_OUT, "a 5xx greeting makes the next server be tried") \
	P(smtp_pipeline_next, BOOL, "yes", "", SEES_OUT, "with PIPELINING, send the next message's envelope behind the content (RFC 2920 section 3.1)") \
	/* notices and suppression */ \
	P(bounce_size_limit, BYTES, "50000", "0..10000000", SEES_BOUNCE, "bytes of the original in a notice with RET=FULL") \
	P(bounce_notice_language, ENUM, "both", "en|ja|both", SEES_BOUNCE, "language of the text part") \
	P(double_bounce_sender, STR, "double-bounce", "", SEES_MASTER, "accepted; notices carry the null reverse-path") \
	/* places and processes */ \
	P(queue_directory, STR, LOCALSTATEDIR "/spool/ekiden", "", SEES_ALL, "queue, journal, control sockets") \
	P(data_directory, STR, LOCALSTATEDIR "/lib/ekiden", "", SEES_ALL, "suppression list and other lasting data") \
	P(maillog_file, STR, "", "", SEES_MASTER, "where the programs log; empty: standard error of start-fg, ekiden.log in data_directory of start") \
	P(maillog_file_prefixes, LIST, "/var /dev/stdout /tmp", "", SEES_MASTER, "folders that maillog_file may be in") \
	P(log_level, ENUM, "info", "error|warn|info|debug", SEES_ALL, "how much the programs log") \
	P(journal_keep_bytes, BYTES, "1073741824", "", SEES_CLEANUP | SEES_QMGR | SEES_BOUNCE, "most bytes of journal that a program keeps") \
	P(journal_keep_time, TIME, "30d", "1h..3650d", SEES_CLEANUP | SEES_QMGR | SEES_BOUNCE, "how long it keeps them") \
	P(smtpd_processes, COUNT, "0", "0..64", SEES_MASTER, "0: one per two processors, at most 8") \
	P(cleanup_processes, COUNT, "0", "0..64", SEES_MASTER, "0: one per two processors, one per processor with dkim_keys; at most 8") \
	P(smtp_processes, COUNT, "0", "0..64", SEES_MASTER, "0: one per two processors, at most 8") \
	P(default_process_limit, COUNT, "100", "1..1000000", SEES_MASTER, "accepted; processes here are few and event-driven") \
	P(restart_delay_limit, TIME, "30s", "0s..1h", SEES_MASTER, "longest wait before a program that died again and again is started once more") \
	P(in_flow_delay, TIME, "1s", "0s..10s", SEES_MASTER, "accepted; intake is slowed by the disk alone")
/* clang-format on */

enum conf_param {
#define AS_ID(name, type, preset, range, sees, meaning) CONF_##name,
	CONF_SCHEMA(AS_ID)
#undef AS_ID
	CONF_COUNT
};

#endif
