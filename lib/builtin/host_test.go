// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"unicode/utf8"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"gopkg.in/check.v1"
)

var _ = check.Suite(&hostSuite{})

type hostSuite struct{}

// answering is an API server that gives one answer.
type answering struct {
	err   error
	body  string
	asked []string
}

func (a *answering) RequestAndDecodeContext(_ context.Context, dst interface{}, method, path string, _ io.Reader, params interface{}) error {
	text, _ := json.Marshal(params)
	a.asked = append(a.asked, method+" "+path+" "+string(text))
	if a.err != nil {
		return a.err
	}
	return json.Unmarshal([]byte(a.body), dst)
}

func (*hostSuite) TestCallAPI(c *check.C) {
	for _, trial := range []struct {
		err       error
		transient bool
	}{
		{&arvados.TransactionError{StatusCode: http.StatusForbidden}, false},
		{&arvados.TransactionError{StatusCode: http.StatusUnprocessableEntity}, false},
		{&arvados.TransactionError{StatusCode: http.StatusBadGateway}, true},
		{errors.New("connection reset"), true},
	} {
		err := CallAPI(context.Background(), &answering{err: trial.err}, nil, "GET", "users/current", nil)
		c.Check(err, check.ErrorMatches, `(?s)api: GET users/current: .*`)
		c.Check(fault.Transient(err), check.Equals, trial.transient, check.Commentf("%v", trial.err))
	}
}

func (*hostSuite) TestCreateOutput(c *check.C) {
	const manifest = ". d41d8cd98f00b204e9800998ecf8427e+0 0:0:f\n"
	pdh := arvados.PortableDataHash(manifest)
	api := &answering{body: `{"portable_data_hash": "` + pdh + `"}`}
	got, err := CreateOutput(context.Background(), api, "zzzzz-dz642-000000000000000", manifest)
	c.Assert(err, check.IsNil)
	c.Check(got, check.Equals, pdh)
	c.Assert(api.asked, check.HasLen, 1)
	c.Check(api.asked[0], check.Matches, `POST arvados/v1/collections .*"is_trashed":true.*"name":"output for zzzzz-dz642-000000000000000".*`)

	api.body = `{"portable_data_hash": "0123456789abcdef0123456789abcdef+1"}`
	_, err = CreateOutput(context.Background(), api, "x", manifest)
	c.Check(err, check.ErrorMatches, `api: create output collection .*says its portable data hash is 0123456789abcdef0123456789abcdef\+1`)
}

func (*hostSuite) TestShorten(c *check.C) {
	c.Check(Shorten("short"), check.Equals, "short")
	long := Shorten(strings.Repeat("ä", maxMessage))
	c.Check(len(long) <= maxMessage+len("…"), check.Equals, true)
	c.Check(utf8.ValidString(long), check.Equals, true)
}

func (*hostSuite) TestLogger(c *check.C) {
	var out bytes.Buffer
	log := NewLogger(&out)
	log.Info("plain")
	log.WithField("b", 2).WithField("a", 1).Warn("odd")
	c.Check(out.String(), check.Equals, "plain\nwarning: odd a=1 b=2\n")
}
