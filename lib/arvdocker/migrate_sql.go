// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"context"

	"git.arvados.org/arvados.git/lib/imagemigrate/sqlstore"
)

// openDatabase opens the database of the cluster, in which changes are by the user
// of the token.
func (s *session) openDatabase(ctx context.Context, flags migrateFlags) (*sqlstore.Store, error) {
	store, err := sqlstore.Open(ctx, flags.sql, s.user.UUID)
	if err != nil {
		return nil, err
	}
	s.say("the schema of the database is of version %s", store.Version)
	return store, nil
}
