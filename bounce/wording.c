/* SPDX-License-Identifier: Apache-2.0 */
#include "bounce/wording.h"

#include <assert.h>

#include "common/base/attr.h"
#include "common/ipc/messages.h"

static const struct wording english[] = {
	[NOTICE_FAILED] = {.subject = "Your message could not be delivered",
		.opening =
			"Your message could not be delivered to the recipients below, and no further\n"
			"attempt will be made.\n",
		.closing =
			"Please check the addresses. What the receiving server answered, as shown above,\n"
			"usually tells the reason.\n"},
	[NOTICE_EXPIRED] = {.subject = "Your message could not be delivered in time",
		.opening =
			"Your message could not be delivered to the recipients below within the time\n"
			"allowed, and no further attempt will be made.\n",
		.closing =
			"Please send it again later, or reach the recipients in another way.\n"},
	[NOTICE_DELAYED] = {.subject = "Your message is delayed",
		.opening =
			"Your message has not been delivered to the recipients below yet. Delivery will\n"
			"be tried again; you need not send it once more.\n",
		.closing = "You will be told if it cannot be delivered in the end.\n"},
	[NOTICE_RELAYED] = {.subject = "Your message was passed on",
		.opening =
			"Your message was passed on to the servers of the recipients below. These servers\n"
			"do not report what becomes of it.\n",
		.closing = "There may be no further notice of its delivery.\n"},
};

/* Subjects are encoded words (RFC 2047). */
static const struct wording japanese[] = {
	[NOTICE_FAILED] = {.subject =
				   "=?UTF-8?B?44Oh44O844Or44KS6YWN6YCB44Gn44GN44G+44Gb44KT44Gn44GX44Gf?=",
		.opening =
			"送信されたメールは、次の宛先に配送できませんでした。再配送は行いません。\n",
		.closing =
			"宛先に誤りがないかご確認ください。詳しい理由は、上に示した相手側サーバーの\n"
			"応答をご覧ください。\n"},
	[NOTICE_EXPIRED] =
		{.subject = "=?UTF-8?B?6YWN6YCB5pyf6ZmQ44KS6YGO44GO44Gf44Oh44O844Or44Gu6YCa55+l?=",
			.opening =
				"送信されたメールは、定められた期間内に次の宛先へ配送できませんでした。\n"
				"配送を中止します。\n",
			.closing =
				"時間をおいて送り直すか、別の方法で相手の方にご連絡ください。\n"},
	[NOTICE_DELAYED] =
		{.subject = "=?UTF-8?B?44Oh44O844Or44Gu6YWN6YCB44GM6YGF44KM44Gm44GE44G+44GZ?=",
			.opening = "送信されたメールは、まだ次の宛先に配送できていません。\n"
				   "引き続き配送を試みますので、送り直す必要はありません。\n",
			.closing =
				"配送できないまま期限を過ぎた場合は、あらためてお知らせします。\n"},
	[NOTICE_RELAYED] =
		{.subject = "=?UTF-8?B?44Oh44O844Or44KS5qyh44G45byV44GN5rih44GX44G+44GX44Gf?=",
			.opening =
				"送信されたメールは、次の宛先を受け持つサーバーに渡しました。\n"
				"このサーバーは配送結果の通知に対応していません。\n",
			.closing = "今後、配送完了の通知が届かないことがあります。\n"},
};
static_assert(ARRAY_LEN(english) == NOTICE_RELAYED + 1, "each kind has words");
static_assert(ARRAY_LEN(japanese) == NOTICE_RELAYED + 1, "each kind has words");

const struct wording *wording_english(uint8_t kind)
{
	assert(kind < ARRAY_LEN(english));
	return &english[kind];
}

const struct wording *wording_japanese(uint8_t kind)
{
	assert(kind < ARRAY_LEN(japanese));
	return &japanese[kind];
}
