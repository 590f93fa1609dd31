// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"gopkg.in/check.v1"
)

var _ = check.Suite(&storeSuite{})

type storeSuite struct {
	dir   string
	store *Store
}

func (s *storeSuite) SetUpTest(c *check.C) {
	s.dir = c.MkDir()
	s.open(c)
}

func (s *storeSuite) open(c *check.C) {
	var err error
	s.store, err = OpenStore(context.Background(), s.dir)
	c.Assert(err, check.IsNil)
}

func (s *storeSuite) TearDownTest(c *check.C) { c.Check(s.store.Close(), check.IsNil) }

func (s *storeSuite) tx(c *check.C, f func(*Tx)) {
	c.Assert(s.store.Tx(context.Background(), func(tx *Tx) error { f(tx); return nil }), check.IsNil)
}

const someUUID = "zzzzz-4zz18-aaaaaaaaaaaaaaa"

func (s *storeSuite) TestRecordsComeBackAsTheyWere(c *check.C) {
	rec := Record{
		"uuid": someUUID, "owner_uuid": "zzzzz-tpzed-aaaaaaaaaaaaaaa", "name": "größe <&> 'x'", "manifest_text": ". text\n",
		"properties": map[string]any{"n": int64(562948157973612639), "f": 1.5, "list": []any{"a", int64(1), nil, true}, "": "", "z": nil},
		"trash_at":   nil,
	}
	s.tx(c, func(tx *Tx) { c.Assert(tx.Put(collections, rec), check.IsNil) })
	want := Record{}
	for name, value := range rec {
		want[name] = value
	}
	want["is_trashed"] = false
	s.tx(c, func(tx *Tx) {
		got, err := tx.Get(collections, someUUID)
		c.Assert(err, check.IsNil)
		c.Check(got, check.DeepEquals, want)
		// Manifests are read only where they are asked for.
		listed, err := tx.List(collections, Query{})
		c.Assert(err, check.IsNil)
		c.Check(listed, check.HasLen, 1)
		c.Check(listed[0]["manifest_text"], check.IsNil)
		// A changed record changes nothing in the store.
		got["name"] = "other"
		again, err := tx.Get(collections, someUUID)
		c.Assert(err, check.IsNil)
		c.Check(again["name"], check.Equals, rec["name"])
	})
}

func (s *storeSuite) TestPutReplacesAndDeleteRemovesWithProperties(c *check.C) {
	withKey := func(tx *Tx, key string) int {
		n, err := tx.Count(collections, Query{Filters: []Filter{Where("properties."+key, "exists", true)}})
		c.Assert(err, check.IsNil)
		return n
	}
	s.tx(c, func(tx *Tx) {
		c.Assert(tx.Put(collections, Record{"uuid": someUUID, "properties": map[string]any{"old": "1"}}), check.IsNil)
		c.Assert(tx.Put(collections, Record{"uuid": someUUID, "properties": map[string]any{"new": "1"}}), check.IsNil)
		c.Check(withKey(tx, "old"), check.Equals, 0)
		c.Check(withKey(tx, "new"), check.Equals, 1)
		c.Assert(tx.Delete(collections, someUUID), check.IsNil)
		c.Assert(tx.Delete(collections, someUUID), check.IsNil)
		c.Check(withKey(tx, "new"), check.Equals, 0)
		_, err := tx.Get(collections, someUUID)
		c.Check(err, check.Equals, errNotFound)
		c.Check(tx.Put(collections, Record{}), check.ErrorMatches, "record without uuid")
	})
}

func (s *storeSuite) TestFailedTransactionLeavesNothing(c *check.C) {
	failure := errors.New("no")
	err := s.store.Tx(context.Background(), func(tx *Tx) error {
		c.Assert(tx.Put(links, Record{"uuid": "zzzzz-o0j2j-aaaaaaaaaaaaaaa"}), check.IsNil)
		return failure
	})
	c.Check(err, check.Equals, failure)
	ctx, cancel := context.WithCancel(context.Background())
	err = s.store.Tx(ctx, func(tx *Tx) error {
		err := tx.Put(links, Record{"uuid": "zzzzz-o0j2j-bbbbbbbbbbbbbbb"})
		cancel()
		return err
	})
	c.Check(err, check.NotNil)
	s.tx(c, func(tx *Tx) {
		n, err := tx.Count(links, Query{})
		c.Assert(err, check.IsNil)
		c.Check(n, check.Equals, 0)
	})
}

func (s *storeSuite) TestViewsNeitherWriteNorSeeWhatIsNotCommitted(c *check.C) {
	ctx := context.Background()
	err := s.store.View(ctx, func(tx *Tx) error { return tx.Put(links, Record{"uuid": "zzzzz-o0j2j-aaaaaaaaaaaaaaa"}) })
	c.Check(err, check.ErrorMatches, ".*readonly.*")
	count := func() (n int) {
		c.Assert(s.store.View(ctx, func(tx *Tx) (err error) { n, err = tx.Count(links, Query{}); return err }), check.IsNil)
		return n
	}
	s.tx(c, func(tx *Tx) {
		c.Assert(tx.Put(links, Record{"uuid": "zzzzz-o0j2j-aaaaaaaaaaaaaaa"}), check.IsNil)
		c.Check(count(), check.Equals, 0)
	})
	c.Check(count(), check.Equals, 1)
}

func (s *storeSuite) TestTablesHaveTheColumnsOfKinds(c *check.C) {
	s.tx(c, func(tx *Tx) {
		for name, k := range kinds {
			pairs, err := tx.pairs("SELECT name, type FROM pragma_table_info(?)", name)
			c.Assert(err, check.IsNil)
			var columns []string
			for _, pair := range pairs {
				columns = append(columns, pair[0])
			}
			want := append(k.columns(), "doc")
			slices.Sort(columns)
			slices.Sort(want)
			c.Check(columns, check.DeepEquals, want, check.Commentf("%s", name))
		}
	})
}

// What images and containers are looked up by must not cost a walk through all
// records.
func (s *storeSuite) TestLookupsUseIndexes(c *check.C) {
	s.tx(c, func(tx *Tx) {
		for _, trial := range []struct {
			kind   string
			filter Filter
		}{
			{collections, Where("uuid", "=", someUUID)},
			{collections, Where("uuid", "in", []any{someUUID})},
			{collections, Where("portable_data_hash", "=", emptyHash)},
			{collections, Where("owner_uuid", "=", "zzzzz-tpzed-aaaaaaaaaaaaaaa")},
			{collections, Where("properties.docker-image-hash", "=", "sha256:x")},
			{collections, Where("properties.arv:docker-image-layers", "contains", "sha256:x")},
			{collections, Where("properties.type", "in", []any{"output", "log"})},
			{collections, Where("properties.type", "exists", true)},
			{links, Where("name", "=", "busybox:latest")}, // with its class, below
			{links, Where("head_uuid", "=", someUUID)},
			{containers, Where("state", "=", "Queued")},
			{containers, Where("auth_uuid", "=", "x")},
			{containerRequests, Where("container_uuid", "=", "x")},
			{tokens, Where("api_token", "=", "x")},
		} {
			q := Query{Filters: []Filter{trial.filter}}
			if trial.kind == links {
				q.Filters = append(q.Filters, Where("link_class", "=", "docker_image_repo+tag"))
			}
			where, args, err := tx.where(kinds[trial.kind], q)
			c.Assert(err, check.IsNil)
			rows, err := tx.sql.Query("EXPLAIN QUERY PLAN SELECT t.doc FROM "+trial.kind+" t WHERE "+where, args...)
			c.Assert(err, check.IsNil)
			for rows.Next() {
				var id, parent, unused int
				var step string
				c.Assert(rows.Scan(&id, &parent, &unused, &step), check.IsNil)
				walks := strings.HasPrefix(step, "SCAN t") || strings.HasPrefix(step, "SCAN p")
				c.Check(walks, check.Equals, false, check.Commentf("%s %v: %s", trial.kind, trial.filter, step))
			}
			c.Check(rows.Err(), check.IsNil)
		}
	})
}

func (s *storeSuite) TestVersions(c *check.C) {
	version := func() (n int) {
		c.Assert(s.store.reader.QueryRow("PRAGMA user_version").Scan(&n), check.IsNil)
		return n
	}
	c.Check(version(), check.Equals, len(migrations))
	s.tx(c, func(tx *Tx) { c.Assert(tx.Put(links, Record{"uuid": "zzzzz-o0j2j-aaaaaaaaaaaaaaa"}), check.IsNil) })
	c.Assert(s.store.Close(), check.IsNil)
	s.open(c)
	s.tx(c, func(tx *Tx) {
		_, err := tx.Get(links, "zzzzz-o0j2j-aaaaaaaaaaaaaaa")
		c.Check(err, check.IsNil)
		_, err = tx.sql.Exec("PRAGMA user_version = 99")
		c.Check(err, check.IsNil)
	})
	_, err := OpenStore(context.Background(), s.dir)
	c.Check(err, check.ErrorMatches, "it has version 99, and this program knows versions up to 1: use a newer program")
}

func (s *storeSuite) TestDatabaseThatCannotBeOpened(c *check.C) {
	_, err := New(testConfig("/dev/null/x"))
	c.Check(err, check.ErrorMatches, "api: open the API server's database /dev/null/x: .*")
	dir := c.MkDir()
	c.Assert(os.WriteFile(dir+"/api.sqlite", []byte("this is no database, but it is long enough to be looked at......"), 0600), check.IsNil)
	_, err = New(testConfig(dir))
	c.Check(err, check.ErrorMatches, "api: .*not a database.*")
}

// killedEnv tells this program to be the one that is killed.
const killedEnv = "LOCALAPI_TEST_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(killedEnv); dir != "" {
		writeForever(dir)
	}
	os.Exit(m.Run())
}

// writeForever commits one record after the other and says so after each.
func writeForever(dir string) {
	store, err := OpenStore(context.Background(), dir)
	for i := 0; err == nil; i++ {
		uuid := fmt.Sprintf("zzzzz-4zz18-%015d", i)
		err = store.Tx(context.Background(), func(tx *Tx) error {
			return tx.Put(collections, Record{"uuid": uuid, "manifest_text": strings.Repeat("x", 1000), "properties": map[string]any{"n": i}})
		})
		if err == nil {
			fmt.Println(uuid)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func (s *storeSuite) TestKilledServerLosesNothingCommitted(c *check.C) {
	var committed []string
	for range 3 {
		dir := c.MkDir()
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), killedEnv+"="+dir)
		out, err := cmd.StdoutPipe()
		c.Assert(err, check.IsNil)
		c.Assert(cmd.Start(), check.IsNil)
		committed = nil
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			committed = append(committed, lines.Text())
			if len(committed) == 30 {
				c.Assert(cmd.Process.Signal(syscall.SIGKILL), check.IsNil)
			}
		}
		cmd.Wait()
		c.Assert(len(committed) >= 30, check.Equals, true)
		store, err := OpenStore(context.Background(), dir)
		c.Assert(err, check.IsNil)
		err = store.View(context.Background(), func(tx *Tx) error {
			for i, uuid := range committed {
				found, err := tx.List(collections, Query{Filters: []Filter{Where("properties.n", "=", int64(i))}})
				if err != nil {
					return err
				}
				c.Assert(found, check.HasLen, 1)
				c.Check(found[0]["uuid"], check.Equals, uuid)
			}
			return nil
		})
		c.Check(err, check.IsNil)
		c.Check(store.Close(), check.IsNil)
	}
}
