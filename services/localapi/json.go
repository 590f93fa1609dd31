// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"math"
	"strconv"
)

// decodeJSON reads one JSON value. Whole numbers become int64, since
// priorities of containers do not fit a float64.
func decodeJSON(text []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	return withoutNumbers(v), nil
}

// withoutNumbers replaces json.Number in v by int64 or float64.
func withoutNumbers(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, item := range v {
			v[key] = withoutNumbers(item)
		}
	case []any:
		for i, item := range v {
			v[i] = withoutNumbers(item)
		}
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		// Out of range gives an infinity, which JSON cannot say.
		f, _ := strconv.ParseFloat(v.String(), 64)
		return max(-math.MaxFloat64, min(f, math.MaxFloat64))
	}
	return v
}

// encodeJSON leaves < and & as they are, as Arvados does.
func encodeJSON(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return buf.Bytes(), err
}

// randomHex is n random hexadecimal digits.
func randomHex(n int) string {
	raw := make([]byte, (n+1)/2)
	rand.Read(raw)
	return hex.EncodeToString(raw)[:n]
}
