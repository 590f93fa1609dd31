// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"git.arvados.org/arvados.git/lib/imagemigrate/pgtest"
	"git.arvados.org/arvados.git/services/localapi"
	"git.arvados.org/arvados.git/services/localcluster"
	"github.com/jackc/pgx/v5"
)

const (
	imagesLinked    = 200_000 // with 5 links to each 2 of them
	othersPerImage  = 10      // collections that are none
	imagesLinkedAPI = 2_000   // through the API, and then
	imagesMoreAPI   = 8_000   // besides, for which it is to take no more memory
	neighbourTime   = 20 * time.Second
)

// migrateFamily brings links into properties, through a PostgreSQL database with
// Arvados's indexes and through the embedded API. MIGRATE_IMAGES is for a smaller
// database.
func migrateFamily(ctx context.Context) ([]figure, error) {
	images := imagesLinked
	if given := os.Getenv("MIGRATE_IMAGES"); given != "" {
		var err error
		if images, err = strconv.Atoi(given); err != nil {
			return nil, fmt.Errorf("MIGRATE_IMAGES: %w", err)
		}
	}
	c, err := startCluster(ctx)
	if err != nil {
		return nil, err
	}
	defer c.close()
	figures, bySQL, err := migrateBySQL(ctx, c, images)
	if err != nil {
		return nil, err
	}
	var byAPI [2]migrated
	for i, size := range [][2]int{{0, imagesLinkedAPI}, {imagesLinkedAPI, imagesLinkedAPI + imagesMoreAPI}} {
		if err := c.fillWithLinks(ctx, size[0], size[1]); err != nil {
			return nil, err
		}
		if byAPI[i], err = c.migrate(ctx); err != nil {
			return nil, err
		}
	}
	back, err := migrateBack(ctx, c, imagesLinkedAPI+imagesMoreAPI)
	if err != nil {
		return nil, err
	}
	return append(append(figures, back...),
		newFigure("migrate.api_per_second", imagesMoreAPI/byAPI[1].seconds, "1/s", ">= 200", "%d images through the embedded API, which has %d besides; of those alone %.0f a second",
			imagesMoreAPI, imagesLinkedAPI, imagesLinkedAPI/byAPI[0].seconds),
		newFigure("migrate.rss_mib", max(bySQL, byAPI[0].rssMiB, byAPI[1].rssMiB), "MiB", "<= 200", "peak of arv-docker: through the database %.0f MiB, through the API %.0f MiB with %d images, %.0f MiB with %d",
			bySQL, byAPI[0].rssMiB, imagesLinkedAPI, byAPI[1].rssMiB, imagesLinkedAPI+imagesMoreAPI),
	), nil
}

// migrated is one call of arv-docker migrate.
type migrated struct{ seconds, rssMiB float64 }

func (c *cluster) migrate(ctx context.Context, args ...string) (migrated, error) {
	return c.arvDocker(ctx, append([]string{"migrate", "--rollback-file", filepath.Join(c.dir, "rollback")}, args...)...)
}

// command is a call of arv-docker as the administrator.
func (c *cluster) command(ctx context.Context, args ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(filepath.Dir(self), "arv-docker"), args...)
	cmd.Env = append(os.Environ(), "ARVADOS_API_HOST="+c.APIAddress, "ARVADOS_API_TOKEN="+c.Tokens[localcluster.Admin], "ARVADOS_API_HOST_INSECURE=1")
	return cmd, nil
}

// arvDocker runs it to its end.
func (c *cluster) arvDocker(ctx context.Context, args ...string) (migrated, error) {
	cmd, err := c.command(ctx, args...)
	if err != nil {
		return migrated{}, err
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	started := time.Now()
	if err := cmd.Start(); err != nil {
		return migrated{}, err
	}
	peak := peakMemory(cmd.Process.Pid)
	if err := cmd.Wait(); err != nil {
		return migrated{}, fmt.Errorf("arv-docker %s: %w\n%s", args[0], err, &out)
	}
	return migrated{time.Since(started).Seconds(), float64(<-peak) / 1024}, nil
}

// migrateBySQL goes there, again, and back. It also returns the peak of arv-docker's
// memory, in MiB.
func migrateBySQL(ctx context.Context, c *cluster, images int) (figures []figure, rss float64, err error) {
	server, err := pgtest.Start("shared_buffers=1GB", "maintenance_work_mem=1GB", "max_wal_size=4GB")
	if err != nil {
		return nil, 0, err
	}
	defer server.Stop()
	dsn, err := server.Make("arvados")
	if err != nil {
		return nil, 0, err
	}
	admin, err := c.UserClient(localcluster.Admin).CurrentUser()
	if err != nil {
		return nil, 0, err
	}
	fmt.Fprintf(os.Stderr, "filling a database with %d images and %d other collections, which takes minutes\n", images, images*othersPerImage)
	if err := server.Run("arvados", fillDatabase(c.ClusterID, admin.UUID, images)); err != nil {
		return nil, 0, err
	}
	before, err := neighbour(ctx, dsn, c.ClusterID, images, func() bool { return true }, neighbourTime)
	if err != nil {
		return nil, 0, err
	}
	type ended struct {
		migrated
		err error
	}
	done := make(chan ended, 1)
	go func() {
		m, err := c.migrate(ctx, "--sql", dsn, "--resume", filepath.Join(c.dir, "resume"))
		done <- ended{m, err}
	}()
	during, err := neighbour(ctx, dsn, c.ClusterID, images, func() bool { return len(done) == 0 }, time.Hour)
	first := <-done
	if err = errors.Join(err, first.err); err != nil {
		return nil, 0, err
	}
	second, err := c.migrate(ctx, "--sql", dsn)
	if err != nil {
		return nil, 0, err
	}
	if err := checkDatabase(ctx, dsn, images); err != nil {
		return nil, 0, err
	}
	back, err := c.migrate(ctx, "--sql", dsn, "--rollback")
	if err != nil {
		return nil, 0, err
	}
	if err := checkDatabase(ctx, dsn, 0); err != nil {
		return nil, 0, err
	}
	return []figure{
		newFigure("migrate.sql_minutes", first.seconds/60, "min", "<= 5", "%d images with %d links among %d other collections: %.0f a second",
			images, images*5/2, images*othersPerImage, float64(images)/first.seconds),
		newFigure("migrate.neighbour_p95_ratio", during/before, "ratio", "<= 2", "p95 of other queries during that, %.2f ms, to that before, %.2f ms", during, before),
		newFigure("migrate.second_run_s", second.seconds, "s", "<= 60", "all of it again, without a write"),
		newFigure("migrate.sql_rollback_minutes", back.seconds/60, "min", "<= 5", "all of it undone"),
	}, max(first.rssMiB, second.rssMiB, back.rssMiB), nil
}

// uuidOf is SQL for the UUID of a record of some kind, "4zz18", given its number.
func uuidOf(cluster, kind, number string) string {
	return fmt.Sprintf(`'%s-%s-' || left(md5('%[2]s' || %[3]s), 15)`, cluster, kind, number)
}

// fillDatabase is SQL that makes collections and links. Indexes are made afterwards,
// since to fill them row by row would take hours.
func fillDatabase(cluster, admin string, images int) string {
	uuid := func(kind, number string) string { return uuidOf(cluster, kind, number) }
	hash := `encode(sha256(n::text::bytea), 'hex')`
	return fmt.Sprintf(`
		CREATE TEMP TABLE made AS SELECT indexname, indexdef FROM pg_indexes WHERE tablename IN ('links', 'collections') AND indexname NOT LIKE '%%pkey';
		DO $$ DECLARE i record; BEGIN FOR i IN SELECT * FROM made LOOP EXECUTE 'DROP INDEX ' || i.indexname; END LOOP; END $$;
		INSERT INTO users (uuid, owner_uuid, created_at, updated_at, is_admin) VALUES ('%[1]s', '%[1]s', now(), now(), true);
		INSERT INTO frozen_groups SELECT %[2]s FROM generate_series(1000000, 1000100) n;
		INSERT INTO collections (uuid, current_version_uuid, owner_uuid, portable_data_hash, name, manifest_text, file_names, file_count, file_size_total,
				properties, created_at, modified_at, updated_at, modified_by_user_uuid)
			SELECT %[3]s, %[3]s, %[4]s, md5('pdh' || n) || '+200', 'image ' || n,
				'. ' || md5('a' || n) || '+67108864 ' || md5('b' || n) || '+67108864 ' || md5('c' || n) || '+60000000 0:194217728:sha256\072' || %[5]s || E'.tar\n',
				'sha256:' || %[5]s || E'.tar\n', 1, 194217728, '{}', '2024-01-01'::timestamp + n * interval '1 minute', '2024-01-01'::timestamp + n * interval '1 minute', now(), '%[1]s'
			FROM generate_series(1, %[6]d) n;
		INSERT INTO collections (uuid, current_version_uuid, owner_uuid, portable_data_hash, name, manifest_text, file_names, file_count, file_size_total,
				properties, created_at, modified_at, updated_at, modified_by_user_uuid)
			SELECT %[3]s, %[3]s, %[4]s, md5('pdh' || n) || '+200', 'Output of step ' || n,
				'. ' || md5('a' || n) || '+67108864 0:60000000:sample' || n || E'.bam 60000000:7108864:sample' || n || E'.bam.bai\n',
				'sample' || n || E'.bam\nsample' || n || E'.bam.bai\n', 2, 67108864, jsonb_build_object('type', 'output', 'container_request', 'zzzzz-xvhdp-' || left(md5('xvhdp' || n), 15)),
				'2024-01-01'::timestamp + n * interval '10 second', '2024-01-01'::timestamp + n * interval '10 second', now(), '%[1]s'
			FROM generate_series(%[6]d + 1, %[6]d * (1 + %[7]d)) n;
		INSERT INTO links (uuid, owner_uuid, link_class, name, head_uuid, properties, created_at, modified_at, updated_at)
			SELECT %[8]s, %[4]s, CASE k WHEN 0 THEN 'docker_image_hash' ELSE 'docker_image_repo+tag' END,
				CASE k WHEN 0 THEN 'sha256:' || %[5]s ELSE 'registry.example/lab/app' || n / 10 || ':' || n %% 10 || '.' || k END, %[3]s,
				jsonb_build_object('image_timestamp', to_char('2024-01-01'::timestamp + n * interval '1 minute', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')),
				'2024-01-01'::timestamp + n * interval '1 minute', '2024-01-01'::timestamp + n * interval '1 minute', now()
			FROM generate_series(1, %[6]d) n, generate_series(0, 2) k WHERE k < 2 OR n %% 2 = 0;
		DO $$ DECLARE i record; BEGIN FOR i IN SELECT * FROM made LOOP EXECUTE i.indexdef; END LOOP; END $$;
		VACUUM ANALYZE; CHECKPOINT;`,
		admin, uuid("j7d0g", "n"), uuid("4zz18", "n"), uuid("j7d0g", "n % 1000"), hash, images, othersPerImage, uuid("o0j2j", "n || ' ' || k"))
}

// neighbour is the p95 of queries as an API server makes them, in milliseconds, for
// as long as going says.
func neighbour(ctx context.Context, dsn, cluster string, images int, going func() bool, most time.Duration) (float64, error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	queries := []string{
		`SELECT uuid, properties, manifest_text FROM collections WHERE uuid = ` + uuidOf(cluster, "4zz18", "$1::int") + ``,
		`SELECT uuid, name FROM collections WHERE portable_data_hash = md5('pdh' || $1::int) || '+200' AND trash_at IS NULL`,
		`SELECT uuid, name, properties FROM collections WHERE owner_uuid = ` + uuidOf(cluster, "j7d0g", "$1::int % 1000") + ` ORDER BY modified_at DESC, uuid LIMIT 100`,
		`SELECT uuid FROM collections WHERE properties @> jsonb_build_object('container_request', 'zzzzz-xvhdp-' || left(md5('xvhdp' || $1::int), 15))`,
		`UPDATE collections SET modified_at = now() AT TIME ZONE 'UTC' WHERE uuid = ` + uuidOf(cluster, "4zz18", "$1::int") + ``,
	}
	var millis []float64
	for n, started := 0, time.Now(); going() && time.Since(started) < most; n++ {
		asked := time.Now()
		if _, err := conn.Exec(ctx, queries[n%len(queries)], 1+n*7919%(images*(1+othersPerImage))); err != nil {
			return 0, err
		}
		millis = append(millis, time.Since(asked).Seconds()*1000)
		time.Sleep(5 * time.Millisecond)
	}
	slices.Sort(millis)
	if len(millis) == 0 {
		return 0, errors.New("there was no time for other queries")
	}
	return millis[len(millis)*95/100], nil
}

// checkDatabase looks whether so many images have their names.
func checkDatabase(ctx context.Context, dsn string, want int) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var named int
	err = conn.QueryRow(ctx, `SELECT count(*) FROM collections WHERE properties ? 'docker-image-repo-tag' AND properties->>'docker-image-hash' = 'sha256:' || substr(file_names, 8, 64)`).Scan(&named)
	if err == nil && named != want {
		err = fmt.Errorf("%d images have their names, and not %d", named, want)
	}
	return err
}

// fillWithLinks stores images from one number to another that are known by links
// alone.
func (c *cluster) fillWithLinks(ctx context.Context, from, to int) error {
	user, err := c.UserClient(localcluster.User).CurrentUser()
	if err != nil {
		return err
	}
	store, err := localapi.OpenStore(ctx, filepath.Join(c.dir, "api"))
	if err != nil {
		return err
	}
	defer store.Close()
	return store.Tx(ctx, func(tx *localapi.Tx) error {
		for i := from; i < to; i++ {
			coll := c.record(storedImage(i), user.UUID)
			coll["properties"] = map[string]interface{}{}
			if err := tx.Put("collections", coll); err != nil {
				return err
			}
			for k, name := range []string{digestOf("config", i), fmt.Sprintf("lab/app%d:1", i), fmt.Sprintf("lab/app%d:2", i)}[:2+i%2] {
				class := "docker_image_repo+tag"
				if k == 0 {
					class = "docker_image_hash"
				}
				err := tx.Put("links", localapi.Record{
					"uuid": fmt.Sprintf("%s-o0j2j-%.15s", c.ClusterID, digestOf("link", i*3+k)[len("sha256:"):]), "owner_uuid": user.UUID,
					"link_class": class, "name": name, "head_uuid": coll["uuid"], "created_at": coll["created_at"], "modified_at": coll["created_at"],
					"properties": map[string]interface{}{"image_timestamp": storedImage(i).made.Format(time.RFC3339Nano)},
				})
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
}
