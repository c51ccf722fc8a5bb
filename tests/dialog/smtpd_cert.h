/* SPDX-License-Identifier: Apache-2.0 */
/* smtpd_cert: a certificate of relay.example and its key, for tests; of no use elsewhere. */
#ifndef TESTS_DIALOG_SMTPD_CERT_H
#define TESTS_DIALOG_SMTPD_CERT_H

/* clang-format off */
#define SMTPD_CERT_KEY \
	"-----BEGIN PRIVATE KEY-----\n" \
	"MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgRvaassIN65v/RV15\n" \
	"42G5H/0kDtrzbWmA03b5QmPuLGmhRANCAATeCemxdfaE0XRFn9135MdNN0Dj/vtA\n" \
	"dnqr0WsgnJvYX4YgddmeAPihKjbRttyMgvc94OMxOKfTpbYqLDD19b5c\n" \
	"-----END PRIVATE KEY-----\n"

#define SMTPD_CERT \
	"-----BEGIN CERTIFICATE-----\n" \
	"MIIBojCCAUegAwIBAgIUAL+Sn/88GjsLrlsRpKp8aC36OuQwCgYIKoZIzj0EAwIw\n" \
	"GDEWMBQGA1UEAwwNcmVsYXkuZXhhbXBsZTAgFw0yNjExMjYyMjA2MjdaGA8yMTI2\n" \
	"MTEwMjIyMDYyN1owGDEWMBQGA1UEAwwNcmVsYXkuZXhhbXBsZTBZMBMGByqGSM49\n" \
	"AgEGCCqGSM49AwEHA0IABN4J6bF19oTRdEWf3Xfkx003QOP++0B2eqvRayCcm9hf\n" \
	"hiB12Z4A+KEqNtG23IyC9z3g4zE4p9OltiosMPX1vlyjbTBrMB0GA1UdDgQWBBRi\n" \
	"+1P0JMt0ixnF7iBubwptB6xZKzAfBgNVHSMEGDAWgBRi+1P0JMt0ixnF7iBubwpt\n" \
	"B6xZKzAPBgNVHRMBAf8EBTADAQH/MBgGA1UdEQQRMA+CDXJlbGF5LmV4YW1wbGUw\n" \
	"CgYIKoZIzj0EAwIDSQAwRgIhAKPhIvmU37YXwPDK2I/zHcJO7I6wshFPELizWz31\n" \
	"9VFFAiEAh2MiLTEchNOOIIx140NBe6DkwuhQOV+ZwnXjfMcRqZ4=\n" \
	"-----END CERTIFICATE-----\n"
/* clang-format on */

#endif
