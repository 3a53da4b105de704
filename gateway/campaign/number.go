package campaign

import (
	"strings"

	"github.com/nyaruka/phonenumbers"
)

// maxNumberText bounds what Normalize looks at: longer texts are no numbers.
const maxNumberText = 64

// minNumber is the length from which digits are believed to be a number of some
// country and not an extension or a short code.
const minNumber = 6

// Normalize returns a telephone number as E.164 digits without the plus sign,
// so that numbers can be compared (contract: numbers). A number without
// country code belongs to country, an ISO 3166 code; empty = unknown. What is
// no complete number of any country (an extension, an emergency number, a
// fictional one) keeps its digits as dialled, and a text without digits
// ("anonymous") stays as it is, in lower case.
func Normalize(country, number string) string {
	number = strings.TrimSpace(number)
	if len(number) > maxNumberText {
		number = number[:maxNumberText]
	}
	digits := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, number)
	if digits == "" || strings.ContainsFunc(number, isLetter) {
		return strings.ToLower(number)
	}
	if strings.HasPrefix(number, "+") || len(digits) < minNumber {
		return digits
	}
	country = strings.ToUpper(country)
	if country != "" {
		if n, ok := parse(digits, country); ok && phonenumbers.IsValidNumber(n) {
			return e164(n)
		}
	}
	if n, ok := parse("+"+digits, ""); ok && phonenumbers.IsValidNumber(n) {
		return e164(n)
	}
	if country != "" {
		if n, ok := parse(digits, country); ok && phonenumbers.IsPossibleNumberWithReason(n) == phonenumbers.IS_POSSIBLE {
			return e164(n)
		}
	}
	if rest, ok := strings.CutPrefix(digits, "00"); ok && len(rest) > 6 {
		return rest
	}
	return digits
}

func parse(number, country string) (*phonenumbers.PhoneNumber, bool) {
	n, err := phonenumbers.Parse(number, country)
	return n, err == nil
}

func e164(n *phonenumbers.PhoneNumber) string {
	return strings.TrimPrefix(phonenumbers.Format(n, phonenumbers.E164), "+")
}

func isLetter(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r > 0x7f }
