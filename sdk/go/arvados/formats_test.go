// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package arvados

import (
	"crypto/md5"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	. "gopkg.in/check.v1"
	"pgregory.net/rapid"
)

func Test(t *testing.T) { TestingT(t) }

type FormatsSuite struct{}

var _ = Suite(&FormatsSuite{})

const (
	fooHash   = "acbd18db4cc2f85cedef654fccc4a4d8"
	barHash   = "37b51d194a7513e45b56f6524f2d51f2"
	emptyPDH  = "d41d8cd98f00b204e9800998ecf8427e+0"
	testToken = "v2/aaaaa-gj3su-000000000000001/secretsecret/aaaaa-dz642-000000000000001"
)

var (
	testSecret = []byte("blob-signing-key")
	farFuture  = time.Unix(0x7fffffff, 0)
)

const (
	twoWeeks = 14 * 24 * time.Hour
	// HMAC-SHA1 of hash@token@7fffffff@127500, computed with Python.
	fooSignature = "+Aaad790291c004936d176d809d1eeb7f4e93f9009@7fffffff"
)

func (*FormatsSuite) TestPortableDataHashIgnoresHints(c *C) {
	hints := fooSignature + "+K@zzzzz"
	for _, trial := range []struct{ text, pdh string }{
		{"", emptyPDH},
		{". " + fooHash + "+3 0:3:foo\n", "1f4b0bc7583c2a7f9102c395f4ffc5e3+45"},
		{". " + fooHash + "+3" + hints + " 0:3:foo\n", "1f4b0bc7583c2a7f9102c395f4ffc5e3+45"},
		{". " + fooHash + "+3+Rzzzzz-abc@1 0:3:foo\n", "1f4b0bc7583c2a7f9102c395f4ffc5e3+45"},
		// A plus sign in a file name is none of a locator's.
		{". " + fooHash + "+3" + hints + " " + barHash + "+3" + hints + " 0:3:foo 3:3:bar\\040baz\n" +
			"./d " + fooHash + "+3" + hints + " 0:3:a+b+c\n", "30bb9382fadf084f7274907b827967fe+144"},
	} {
		c.Check(PortableDataHash(trial.text), Equals, trial.pdh, Commentf("%q", trial.text))
	}
}

func (*FormatsSuite) TestSignatureOfAnIndependentImplementation(c *C) {
	c.Check(SignLocator(fooHash+"+3", testToken, farFuture, twoWeeks, testSecret), Equals, fooHash+"+3"+fooSignature)
	// The size is not part of what is signed, and neither are hints.
	c.Check(SignLocator(fooHash, testToken, farFuture, twoWeeks, testSecret), Equals, fooHash+fooSignature)
	c.Check(VerifySignature(fooHash+"+3"+fooSignature, testToken, twoWeeks, testSecret), IsNil)
	c.Check(VerifySignature(fooHash+"+3+K@zzzzz"+fooSignature+"+Z", testToken, twoWeeks, testSecret), IsNil)
}

func (*FormatsSuite) TestWithoutSecretOrTokenNothingIsSigned(c *C) {
	c.Check(SignLocator(fooHash+"+3", "", farFuture, twoWeeks, testSecret), Equals, fooHash+"+3")
	c.Check(SignLocator(fooHash+"+3", testToken, farFuture, twoWeeks, nil), Equals, fooHash+"+3")
}

func (*FormatsSuite) TestRefusedSignatures(c *C) {
	signed := fooHash + "+3" + fooSignature
	expired := SignLocator(fooHash+"+3", testToken, time.Unix(1, 0), twoWeeks, testSecret)
	for _, trial := range []struct {
		about, locator, token, secret string
		ttl                           time.Duration
		err                           error
	}{
		{"another token", signed, testToken + "x", string(testSecret), twoWeeks, ErrSignatureInvalid},
		{"another secret", signed, testToken, "guess", twoWeeks, ErrSignatureInvalid},
		{"another lifetime", signed, testToken, string(testSecret), time.Hour, ErrSignatureInvalid},
		{"another block", barHash + "+3" + fooSignature, testToken, string(testSecret), twoWeeks, ErrSignatureInvalid},
		{"a later expiry", strings.Replace(signed, "@7fffffff", "@7ffffffe", 1), testToken, string(testSecret), twoWeeks, ErrSignatureInvalid},
		{"expired", expired, testToken, string(testSecret), twoWeeks, ErrSignatureExpired},
		{"none", fooHash + "+3", testToken, string(testSecret), twoWeeks, ErrSignatureMissing},
		{"another cluster's", fooHash + "+3+Rzzzzz-" + fooSignature[2:], testToken, string(testSecret), twoWeeks, ErrSignatureMissing},
		{"cut short", signed[:len(signed)-1], testToken, string(testSecret), twoWeeks, ErrSignatureMissing},
		{"not a locator", "foo", testToken, string(testSecret), twoWeeks, ErrSignatureMissing},
		{"empty", "", testToken, string(testSecret), twoWeeks, ErrSignatureMissing},
	} {
		err := VerifySignature(trial.locator, trial.token, trial.ttl, []byte(trial.secret))
		c.Check(err, Equals, trial.err, Commentf(trial.about))
	}
}

func (*FormatsSuite) TestSignedLocatorGroups(c *C) {
	parts := SignedLocatorRe.FindStringSubmatch(fooHash + "+3+K@x+Bc" + fooSignature + "+Z@9-_")
	c.Check(parts[1:], DeepEquals, []string{
		fooHash, "+3", "+K@x+Bc", "+Bc", fooSignature,
		"aad790291c004936d176d809d1eeb7f4e93f9009", "7fffffff", "+Z@9-_", "+Z@9-_",
	})
}

func (*FormatsSuite) TestSignManifestSignsLocatorsOnly(c *C) {
	old := "+A" + strings.Repeat("0", 40) + "@00000001"
	manifest := ". " + fooHash + "+3" + old + " " + barHash + "+3+K@zzzzz 0:6:" + fooHash + "\n" +
		"./" + fooHash + " " + fooHash + "+3 0:3:x\n"
	signed := SignManifest(manifest, testToken, farFuture, twoWeeks, testSecret)
	fields := strings.Split(strings.ReplaceAll(signed, "\n", " \n "), " ")
	c.Check(fields[1], Equals, fooHash+"+3"+fooSignature)
	c.Check(fields[2], Matches, barHash+`\+3\+K@zzzzz\+A[0-9a-f]{40}@7fffffff`)
	c.Check(fields[3], Equals, "0:6:"+fooHash)
	c.Check(fields[5], Equals, "./"+fooHash)
	c.Check(fields[6], Equals, fooHash+"+3"+fooSignature)
	c.Check(PortableDataHash(signed), Equals, PortableDataHash(manifest))
}

// Whatever is signed can be verified, with the same things and no others.
func TestSignaturesVerify(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hash := rapid.StringMatching(`[0-9a-f]{32}(\+[0-9]{1,8})?(\+[B-Z][a-z]{0,3})?`).Draw(t, "locator")
		token := rapid.StringN(1, 40, -1).Draw(t, "token")
		secret := []byte(rapid.StringN(1, 40, -1).Draw(t, "secret"))
		expiry := time.Unix(rapid.Int64Range(time.Now().Unix()+3600, 0xffffffff).Draw(t, "expiry"), 0)
		ttl := time.Duration(rapid.Int64Range(0, 1<<32).Draw(t, "ttl")) * time.Second
		signed := SignLocator(hash, token, expiry, ttl, secret)
		if err := VerifySignature(signed, token, ttl, secret); err != nil {
			t.Fatalf("%s: %v", signed, err)
		}
		if err := VerifySignature(signed, token+"x", ttl, secret); err != ErrSignatureInvalid {
			t.Fatalf("%s with another token: %v", signed, err)
		}
	})
}

func (*FormatsSuite) TestIdentifiers(c *C) {
	seen := map[string]bool{}
	for range 100 {
		uuid := RandomUUID("zzzzz", "4zz18")
		c.Check(UUIDMatch(uuid), Equals, true, Commentf(uuid))
		c.Check(uuid, Matches, "zzzzz-4zz18-.*")
		c.Check(seen[uuid], Equals, false)
		seen[uuid] = true
	}
	for id, is := range map[string]bool{
		"zzzzz-4zz18-0123456789abcde":   true,
		"zzzzz-4zz18-0123456789abcdef":  false,
		"zzzzz-4zz18-0123456789ABCDE":   false,
		"zzzzz-4zz18-0123456789abcde\n": false,
		emptyPDH:                        false,
		"":                              false,
	} {
		c.Check(UUIDMatch(id), Equals, is, Commentf(id))
	}
	for id, is := range map[string]bool{
		emptyPDH:                        true,
		fooHash:                         false,
		fooHash + "+":                   false,
		fooHash + "+3+A":                false,
		strings.ToUpper(fooHash) + "+3": false,
	} {
		c.Check(PDHMatch(id), Equals, is, Commentf(id))
	}
}

func (*FormatsSuite) TestTokenV2(c *C) {
	auth := APIClientAuthorization{UUID: "zzzzz-gj3su-000000000000001", APIToken: "secret"}
	c.Check(auth.TokenV2(), Equals, "v2/zzzzz-gj3su-000000000000001/secret")
}

func FuzzVerifySignature(f *testing.F) {
	f.Add(fooHash + "+3" + fooSignature)
	f.Add(fooHash + fooSignature + "+K@zzzzz")
	f.Add(fooHash + "+3")
	f.Add("+A@")
	f.Fuzz(func(t *testing.T, locator string) {
		if VerifySignature(locator, testToken, twoWeeks, testSecret) == nil && !strings.Contains(locator, "+A") {
			t.Fatalf("verified without a signature: %q", locator)
		}
	})
}

// The hash is that of the text in which each token is looked at by itself.
func FuzzPortableDataHash(f *testing.F) {
	f.Add(". " + fooHash + "+3" + fooSignature + " 0:3:foo\n")
	f.Add(". " + fooHash + "+3+A " + fooHash + "+3+ 0:3:" + fooHash + "+3+A\n./d")
	f.Add("")
	signed := regexp.MustCompile(`^([0-9a-f]{32}\+[0-9]+)\+(.|\n)+$`)
	f.Fuzz(func(t *testing.T, manifest string) {
		lines := strings.Split(manifest, "\n")
		for i, line := range lines {
			tokens := strings.Split(line, " ")
			for j, token := range tokens {
				if parts := signed.FindStringSubmatch(token); parts != nil {
					tokens[j] = parts[1]
				}
			}
			lines[i] = strings.Join(tokens, " ")
		}
		bare := strings.Join(lines, "\n")
		want := fmt.Sprintf("%x+%d", md5.Sum([]byte(bare)), len(bare))
		if have := PortableDataHash(manifest); have != want {
			t.Fatalf("%q has hash %s, not %s", manifest, have, want)
		}
	})
}

func BenchmarkPortableDataHash(b *testing.B) {
	manifest := "." + strings.Repeat(" "+fooHash+"+67108864"+fooSignature, 16384) + " 0:1099511627776:x\n" // 1 TiB
	b.SetBytes(int64(len(manifest)))
	for b.Loop() {
		PortableDataHash(manifest)
	}
}

func BenchmarkSignManifest(b *testing.B) {
	manifest := "." + strings.Repeat(" "+fooHash+"+67108864", 16384) + " 0:1099511627776:x\n"
	for b.Loop() {
		SignManifest(manifest, testToken, farFuture, twoWeeks, testSecret)
	}
}
