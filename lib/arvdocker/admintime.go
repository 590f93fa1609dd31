// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import "time"

// adminTime is how long a request of migrate or sync may take, with all that it is
// tried again. Nobody is waiting for one, as people are for other commands: an API
// server may be restarted meanwhile, something else may have rows locked for minutes,
// and a Retry-After of a minute is obeyed, since a client waits for a tenth of this at
// most. But it is also how long a single image takes at which the server fails.
const adminTime = 10 * time.Minute

// bePatient gives requests from now on that time. A client that tries nothing again
// goes on not to.
func (s *session) bePatient() {
	if s.API.Timeout == 0 {
		return
	}
	client, program := *s.API, *s.Program
	client.Timeout = max(client.Timeout, adminTime)
	program.API = &client
	s.Program = &program
}
