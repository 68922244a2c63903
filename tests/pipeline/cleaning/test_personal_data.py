"""Personal data: what becomes a mark, and what only looks like it."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.cleaning_sections import PersonalDataConfig
from pipeline.cleaning.personal_addresses import mark_emails, mark_ips
from pipeline.cleaning.personal_data import PersonalData
from pipeline.cleaning.personal_numbers import is_card_number, mark_cards, mark_phones


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("a.b+tag@example.com", "<EMAIL>"),
        ("Mail <foo@bar.co.uk>, x_y@y.org; or not.", "Mail <<EMAIL>>, <EMAIL>; or not."),
        ("请联系我们admin@example.com获取", "请联系我们<EMAIL>获取"),
        ("메일admin@example.com으로", "메일<EMAIL>으로"),
        ("Jürgen.Müller@exämple.de.", "<EMAIL>."),
        ("用户@例子.公司", "<EMAIL>"),
        ("почта@пример.рф,", "<EMAIL>,"),
        ("'o.k@bar.com'", "'<EMAIL>'"),
        ("x=foo@bar.com&y", "x=<EMAIL>&y"),
        ("me@xn--bcher-kva.example", "<EMAIL>"),
        ("mailto:me@mail.museum?subject=x", "mailto:<EMAIL>?subject=x"),
        ("O'Brien@example.com", "<EMAIL>"),
        ("a@b.com@c.com", "<EMAIL>@c.com"),
        ("x" * 64 + "@y.de", "<EMAIL>"),
    ],
)
def test_emails(text: str, marked: str) -> None:
    assert mark_emails(text) == (marked, marked.count("<EMAIL>"))


@pytest.mark.parametrize(
    "text",
    ["@user", "a@b", "a@b.c", "at @ sign", "..@x.com", "a.@x.com", "logo@2x.png", "pkg@1.2.3", "a@-b.com", "@@", "@",
     "x" * 65 + "@y.de", "5 @ 3.50", "user@localhost", "@decorator.name"],
)  # fmt: skip
def test_no_emails(text: str) -> None:
    assert mark_emails(text) == (text, 0)


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("1.2.3.4", "<IP>"),
        ("at 203.0.113.7.", "at <IP>."),
        ("203.0.113.7:8080 and 10.0.0.0/8", "<IP>:8080 and <IP>/8"),
        ("http://8.8.8.8/x", "http://<IP>/x"),
        ("10.0.0.1-10.0.0.9", "<IP>-<IP>"),
        ("地址192.168.1.1的", "地址<IP>的"),
        ("2001:0db8:85a3:0000:0000:8a2e:0370:7334", "<IP>"),
        ("[2001:db8::1]:8080", "[<IP>]:8080"),
        ("fe80::1%eth0", "<IP>%eth0"),
        ("2001:db8::/32, 2001:DB8::A.", "<IP>/32, <IP>."),
        ("at 2001:db8::1: it", "at <IP>: it"),
        ("::ffff:203.0.113.7", "<IP>"),
        ("::FFFF:0:192.0.2.1, ::192.0.2.1", "<IP>, <IP>"),
        ("64:ff9b::192.0.2.33", "<IP>"),
        ("Server 1.2.3.4, at 1.2.3.4", "Server <IP>, at <IP>"),
        ("2001:db8::203.0.113.7", "<IP>"),
    ],
)
def test_ips(text: str, marked: str) -> None:
    assert mark_ips(text) == (marked, marked.count("<IP>"))


@pytest.mark.parametrize(
    "text",
    ["256.1.1.1", "1.2.3.4.5", "1.2.3", "01.02.03.04", "v1.2.3.4", "version 1.2.3.4", "Section 1.2.3.4", "版本1.2.3.4",
     "1.2.3.4-beta", "127.0.0.1", "0.0.0.0", "255.255.255.0", "::1", "::", "12:30:45", "00:1A:2B:3C:4D:5E",
     "std::vector", "dead::beef", "a::b", "£ 3335:6:8", "045e:028e", "Version/1.2.3.4", "2001:db8:::1",
     "1:2:3:4:5:6:7:8:9", "x2001:db8::1", "OpenSSL 1.1.1.1", "x[1::2]", "1::", "::ffff:0.0.0.0.0"],
)  # fmt: skip
def test_no_ips(text: str) -> None:
    assert mark_ips(text) == (text, 0)


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("4111111111111111", "<CARD>"),
        ("4111 1111 1111 1111, 12/27", "<CARD>, 12/27"),
        ("4111-1111-1111-1111", "<CARD>"),
        ("4111 1111 1111 1111 123", "<CARD> 123"),
        ("5500 0000 0000 0004", "<CARD>"),
        ("2221000000000009", "<CARD>"),
        ("3782 822463 10005", "<CARD>"),
        ("3056 930902 5904", "<CARD>"),
        ("4111\u00a01111\u00a01111\u00a01111", "<CARD>"),
        ("6011 1111 1111 1117", "<CARD>"),
        ("3530111333300000.", "<CARD>."),
        ("6221260000000000", "<CARD>"),
        ("卡号4111111111111111。", "卡号<CARD>。"),
        ("name,4111111111111111,x", "name,<CARD>,x"),
        ("a,4111 1111 1111 1111,b", "a,<CARD>,b"),
        ("4111111111111111,5555555555554444", "<CARD>,<CARD>"),
        ("1,4111111111111111", "1,<CARD>"),
        ("No.4111111111111111", "No.<CARD>"),
        ("No. 4111111111111111/x", "No. <CARD>/x"),
        ("6759 6498 2643 8453, 6304000000000000, 5018000000000009", "<CARD>, <CARD>, <CARD>"),
    ],
)
def test_cards(text: str, marked: str) -> None:
    assert mark_cards(text) == (marked, marked.count("<CARD>"))


@pytest.mark.parametrize(
    "text",
    ["4111 1111 1111 1112", "4111 1111-1111 1111", "4111  1111 1111 1111", "1234567812345670", "41111111111111112",
     "0.4111111111111111", "0,4111111111111111", ".4111111111111111", "x .4111111111111111",
     "6759649826438454", "a4111111111111111", "4111111111111111b", "978-0-306-40615-7", "4111 1111 1111",
     "0000 0000 0000 0000", "20121012134510123"],
)  # fmt: skip
def test_no_cards(text: str) -> None:
    assert mark_cards(text) == (text, 0)


@given(st.integers(0, 10**15 - 1))
def test_one_check_digit_fits(number: int) -> None:
    fifteen = f"4{number:014d}"[:15]
    assert sum(is_card_number(f"{fifteen}{digit}") for digit in range(10)) == 1


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("+1 555 123 4567", "<PHONE>"),
        ("+1 (555) 123-4567.", "<PHONE>."),
        ("+15551234567", "<PHONE>"),
        ("+1 555 123 4567 24 hours", "<PHONE> 24 hours"),
        ("call (555) 123-4567 now", "call <PHONE> now"),
        ("555-123-4567, 555.123.4567", "<PHONE>, <PHONE>"),
        ("1-800-555-0199", "<PHONE>"),
        ("+44 (0)20 7946 0958", "<PHONE>"),
        ("+49-30-901820", "<PHONE>"),
        ("+33 1 23 45 67 89", "<PHONE>"),
        ("+39 333 1234567 / +39 333 7654321", "<PHONE> / <PHONE>"),
        ("(+86) 138 0013 8000", "<PHONE>"),
        ("+86\u00a0138\u00a00013\u00a08000", "<PHONE>"),
        ("电话13800138000联系", "电话<PHONE>联系"),
        ("138-0013-8000或138 0013 8000", "<PHONE>或<PHONE>"),
        ("010-62770000 (021) 62770000 0755 26770000", "<PHONE> <PHONE> <PHONE>"),
        ("090-1234-5678, 03-1234-5678, 02-123-4567", "<PHONE>, <PHONE>, <PHONE>"),
        ("Tel.: 030/901820, Fax 030 90 18 21", "Tel.: <PHONE>, Fax <PHONE>"),
        ("Phone number: 020 7946 0958", "Phone number: <PHONE>"),
        ("手机号码：12345678", "手机号码：<PHONE>"),
        ("a,415-555-2671,b", "a,<PHONE>,b"),
        ("phone,(415) 555-2671", "phone,<PHONE>"),
        ("415-555-2671/415-555-2672", "<PHONE>/<PHONE>"),
        ("415-555-2671,415-555-2672", "<PHONE>,<PHONE>"),
        ("13800138000,13900139000", "<PHONE>,<PHONE>"),
        ("13800138000/13900139000/010-62770000", "<PHONE>/<PHONE>/<PHONE>"),
        ("7,13800138000", "7,<PHONE>"),
        ("(415)-555-2671", "<PHONE>"),
        ("No.13800138000", "No.<PHONE>"),
        ("Tel. 213 456 789", "Tel. <PHONE>"),
        ("Téléphone : 01 23 45 67 89", "Téléphone : <PHONE>"),
    ],
)
def test_phones(text: str, marked: str) -> None:
    assert mark_phones(text) == (marked, marked.count("<PHONE>"))


@pytest.mark.parametrize(
    "text",
    ["1999-2000", "from 1914-1918 to 1939-1945", "2001 2002 2003 2004", "2012-10-12 13:45:10", "13.5.2011",
     "ISBN 978-0-306-40615-7", "ISBN 0-306-40615-2", "ISSN 0378-5955", "$1,234,567.89", "3.14159265358979",
     "10,000,000-20,000,000", "+10 000 000", "+20000000", "+1.23456789", "lat +48.8583701 lon +2.2944813",
     "version 10.2.3.4567", "123 456 789 101", "phone 2019-2020", "the iPhone 15", "Tel Aviv 1948", "p. 123-456",
     "555-1234", "2555-123-4567", "a+1 555 123 4567", "1357924680", "20121012134510", "DOI 10.1000/182.123.4567",
     "1-2-3-4-5-6-7-8", "01-01-2010", "ISBN 0-19-853453-1", "身份证110101199003078515", "123-45-6789",
     "x = 5 + 25551234567", "+40.7128 -74.0060", "+40.712800, -74.006000", "Fax 300 000 units", "Tel 1 300 000",
     "1,415-555-2671", "12,415-555-2671", "1,234,415-555-2671", "0.415-555-2671", "https://a.com/13800138000.html",
     "192.168.415.555.2671", "http://a.com/b/415-555-2671", "in 1999.2000-2001", "$1,415.555.2671"],
)  # fmt: skip
def test_no_phones(text: str) -> None:
    assert mark_phones(text) == (text, 0)


def test_all_kinds_together() -> None:
    edits: Counter[str] = Counter()
    text = "Mail a@b.com or c@d.org, call +1 555 123 4567 from 203.0.113.7, pay 4111 1111 1111 1111."
    marked = "Mail <EMAIL> or <EMAIL>, call <PHONE> from <IP>, pay <CARD>."
    assert PersonalData(PersonalDataConfig()).mend(text, edits) == (marked, "")
    assert edits == {
        "personal_data.email": 2,
        "personal_data.card": 1,
        "personal_data.ip": 1,
        "personal_data.phone": 1,
    }
    assert PersonalData(PersonalDataConfig()).mend(marked, Counter()) == (marked, "")


def test_only_the_kinds_that_are_named() -> None:
    text = "a@b.com +1 555 123 4567"
    assert PersonalData(PersonalDataConfig(kinds=("phone",))).mend(text, Counter()) == ("a@b.com <PHONE>", "")


def test_text_without_any_is_the_same() -> None:
    text = "On 3 May 1998, 1,200 people paid $15.99 at 10:30; 45% came by bus no. 100."
    edits: Counter[str] = Counter()
    assert PersonalData(PersonalDataConfig()).mend(text, edits) == (text, "")
    assert not edits
