// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localcluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Settings are what a data folder remembers of its cluster, in cluster.json.
// The file holds the cluster's secrets, so only its owner can read it.
type Settings struct {
	ClusterID       string // five letters and digits
	SystemRootToken string
	BlobSigningKey  string
	APIAddress      string // host:port, the same at every start
	KeepAddress     string
	Tokens          map[string]string // of the users, by name
	CertificatePEM  string
	KeyPEM          string

	dir string
}

// Names of the cluster's two users.
const (
	Admin = "admin"
	User  = "user" // an ordinary one
)

func (s *Settings) path(name string) string { return filepath.Join(s.dir, name) }

// LoadSettings reads the settings of the cluster in dir.
func LoadSettings(dir string) (*Settings, error) {
	s := &Settings{dir: dir}
	buf, err := os.ReadFile(s.path("cluster.json"))
	if err != nil {
		return nil, err
	}
	return s, json.Unmarshal(buf, s)
}

// makeSettings makes up the settings of a new cluster in dir and saves them.
func makeSettings(dir string) (*Settings, error) {
	s := &Settings{
		dir:             dir,
		ClusterID:       "x" + randomWord(4), // another one in each data folder: UUIDs name lock files of this machine
		SystemRootToken: randomWord(50),
		BlobSigningKey:  randomWord(50),
		Tokens:          map[string]string{},
	}
	for i, name := range []string{Admin, User} {
		s.Tokens[name] = fmt.Sprintf("v2/%s-gj3su-%015d/%s", s.ClusterID, i+1, randomWord(50))
	}
	addresses, err := freeAddresses(2)
	if err != nil {
		return nil, err
	}
	s.APIAddress, s.KeepAddress = addresses[0], addresses[1]
	if err := s.makeCertificate(); err != nil {
		return nil, err
	}
	buf, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0700); err != nil {
		return nil, err
	}
	// Renamed into place, so that there is never half a file.
	unfinished := s.path("cluster.json~")
	if err := os.WriteFile(unfinished, buf, 0600); err != nil {
		return nil, err
	}
	return s, os.Rename(unfinished, s.path("cluster.json"))
}

// openSettings loads the settings in dir, or makes them at the first start.
func openSettings(dir string) (*Settings, error) {
	s, err := LoadSettings(dir)
	if errors.Is(err, os.ErrNotExist) {
		return makeSettings(dir)
	}
	return s, err
}

// randomWord is n lower-case letters and digits that nobody can guess.
func randomWord(n int) string {
	const alphabet = "0123456789abcdefghijklmnopqrstuvwxyz"
	word := make([]byte, n)
	for i := range word {
		pick, err := rand.Int(rand.Reader, big.NewInt(int64(len(alphabet))))
		if err != nil {
			panic(err) // the system has no randomness
		}
		word[i] = alphabet[pick.Int64()]
	}
	return string(word)
}

// freeAddresses are so many addresses on loopback that nothing listens on. They are
// to be free also when the cluster starts, so their ports are not among those that
// the system itself gives to programs (on Linux from 32768 on).
func freeAddresses(n int) ([]string, error) {
	const first, count = 20000, 10000
	var addresses []string
	for range count {
		pick, err := rand.Int(rand.Reader, big.NewInt(count))
		if err != nil {
			return nil, err
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first+pick.Int64()))
		if err != nil {
			continue // taken, most likely
		}
		defer l.Close() // once all are found
		if addresses = append(addresses, l.Addr().String()); len(addresses) == n {
			return addresses, nil
		}
	}
	return nil, fmt.Errorf("there are no %d free ports from %d to %d on 127.0.0.1", n, first, first+count-1)
}

// makeCertificate makes a certificate for loopback that signs itself.
func (s *Settings) makeCertificate() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(time.Now().UnixNano()),
		Subject:               pkix.Name{CommonName: "arvados-local " + s.ClusterID},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().AddDate(10, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA:                  true,
		BasicConstraintsValid: true,
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	s.CertificatePEM = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	s.KeyPEM = string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}))
	return nil
}
