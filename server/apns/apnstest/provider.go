package apnstest

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"strings"
	"time"
)

const (
	maxTokenAge   = time.Hour        // what is older is stale
	minTokenAge   = 20 * time.Minute // a provider's token may not change sooner
	maxTokenAhead = time.Minute      // what another clock may be ahead; Apple names no number
)

// refuseProvider looks at the provider's token.
func (s *Server) refuseProvider(conn *connection, p *Push) Answer {
	scheme, bearer, _ := strings.Cut(p.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "bearer") || bearer == "" {
		return refused(http.StatusForbidden, "MissingProviderToken")
	}
	issued, ok := s.issued(bearer, p)
	now := s.Now()
	switch {
	case !ok, issued.After(now.Add(maxTokenAhead)):
		return refused(http.StatusForbidden, "InvalidProviderToken")
	case now.Sub(issued) > maxTokenAge:
		return refused(http.StatusForbidden, "ExpiredProviderToken")
	case bearer == conn.bearer:
	case conn.bearer != "" && now.Sub(conn.since) < minTokenAge:
		return refused(http.StatusTooManyRequests, "TooManyProviderTokenUpdates")
	default:
		conn.bearer, conn.since = bearer, now
	}
	return Answer{Status: http.StatusOK}
}

// issued returns when a token was issued, if it is one of the team's.
func (s *Server) issued(bearer string, p *Push) (time.Time, bool) {
	parts := strings.Split(bearer, ".")
	if len(parts) != 3 {
		return time.Time{}, false
	}
	var decoded [3][]byte
	for i, part := range parts {
		var err error
		if decoded[i], err = base64.RawURLEncoding.Strict().DecodeString(part); err != nil {
			return time.Time{}, false
		}
	}
	p.Provider = string(decoded[0]) + " " + string(decoded[1])
	var header struct {
		Alg string `json:"alg"`
		Kid string `json:"kid"`
	}
	var claims struct {
		Iss string `json:"iss"`
		Iat *int64 `json:"iat"`
	}
	if json.Unmarshal(decoded[0], &header) != nil || json.Unmarshal(decoded[1], &claims) != nil || claims.Iat == nil {
		return time.Time{}, false
	}
	if header.Alg != "ES256" || header.Kid != KeyID || claims.Iss != Team || len(decoded[2]) != 64 {
		return time.Time{}, false
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	r, v := new(big.Int).SetBytes(decoded[2][:32]), new(big.Int).SetBytes(decoded[2][32:])
	return time.Unix(*claims.Iat, 0), ecdsa.Verify(&s.key.PublicKey, sum[:], r, v)
}
