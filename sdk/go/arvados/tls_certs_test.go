// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package arvados

import (
	"os"
	"path/filepath"

	. "gopkg.in/check.v1"
)

func (*ClientSuite) TestSiteCertificates(c *C) {
	present := filepath.Join(c.MkDir(), "ca.crt")
	c.Assert(os.WriteFile(present, nil, 0o600), IsNil)
	for _, trial := range []struct{ about, chosen, path, want string }{
		{"a site with its own", "", present, present},
		{"a user's choice", "/chosen.crt", present, "/chosen.crt"},
		{"a site without", "", present + ".missing", ""},
	} {
		restore := setenv(c, "", map[string]string{"SSL_CERT_FILE": trial.chosen})
		trustFile(trial.path)
		have := os.Getenv("SSL_CERT_FILE")
		restore()
		c.Check(have, Equals, trial.want, Commentf(trial.about))
	}
}
