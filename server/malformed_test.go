package server_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/countersignd/countersign/internal/countersigntest"
	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/approval/storetest"
)

// rawCodec sends bytes as they are.
type rawCodec struct{}

func (rawCodec) Name() string                    { return "proto" }
func (rawCodec) Marshal(v any) ([]byte, error)   { return v.([]byte), nil }
func (rawCodec) Unmarshal(b []byte, v any) error { *v.(*[]byte) = b; return nil }

// inputs is how many malformed messages are sent: 100,000 with
// COUNTERSIGN_INPUTS=100000, fewer in an ordinary run.
func inputs(t *testing.T) int {
	if s := os.Getenv("COUNTERSIGN_INPUTS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return 5000
}

// TestA25MalformedMessagesChangeNothing is a trusted device and a registered
// application that send whatever comes to their minds to every method: bytes
// that are no message, messages with wrong types, unknown fields, hostile
// texts and statements that were bent. Nothing panics, every answer is a
// documented error, and the store is what it was.
func TestA25MalformedMessagesChangeNothing(t *testing.T) {
	memory := storetest.NewMemory()
	system := countersigntest.New(t, &countersigntest.Options{Store: memory})
	system.AddAccount("ada")
	mac := system.EnrollDevice("ada")
	files := system.AddApplication("files")
	signIn := files.MustBegin("ada")
	prompt := mac.MustPrompt(signIn.GetId())
	good, err := mac.Decision(prompt, statement.Deny, "")
	if err != nil {
		t.Fatal(err)
	}
	random := mathrand.New(mathrand.NewPCG(1, 2))
	mess := messages{random: random, signIn: signIn.GetId(), statement: good}
	before := dump(t, memory)
	conns := map[string]*grpc.ClientConn{
		"countersign.v1.EnrollmentService": mac.Conn, "countersign.v1.DeviceService": mac.Conn, "countersign.v1.SignInService": files.Conn,
	}
	all := slices.DeleteFunc(rpcs(), func(r rpc) bool { return conns[r.service] == nil || r.desc.IsStreamingServer() })
	sent := map[string]int{}
	for i := range inputs(t) {
		r := all[i%len(all)]
		conn := conns[r.service]
		message := mess.next(r.desc.Input())
		var answer []byte
		err := conn.Invoke(context.Background(), r.path(), message, &answer, grpc.ForceCodec(rawCodec{}))
		sent[outcome(err)]++
		if err == nil && !harmless(r.name) {
			t.Fatalf("%s took %q", r.name, message)
		}
		switch outcome(err) {
		case "OK", "Internal": // gRPC's own word for bytes that are no message
		case "INTERNAL", "STORE_FAILED", "Unknown", "Unavailable":
			t.Fatalf("%s with %q = %v", r.name, message, err)
		}
	}
	if after := dump(t, memory); after != before {
		t.Errorf("the store has changed:\n%s\nwas:\n%s", after, before)
	}
	if strings.Contains(system.Log(), "panic") {
		t.Error("a handler panicked")
	}
	t.Logf("answers: %v", sent)
}

// harmless says which methods may take what they were sent: those that read,
// and a code request or an enrolment never. RecoverDevice reads if it is sent
// nothing, and the caller is trusted. UpdateDevice can take back a registration
// that there never was.
func harmless(method string) bool {
	return slices.Contains([]string{"GetSelf", "ListDevices", "ListRecentSignIns", "UpdateDevice", "GetDeployment", "RecoverDevice"}, method)
}

// messages makes messages that nobody should send.
type messages struct {
	random            *mathrand.Rand
	signIn, statement string
}

func (m *messages) next(d protoreflect.MessageDescriptor) []byte {
	if m.random.IntN(5) == 0 {
		b := make([]byte, m.random.IntN(300))
		rand.Read(b)
		return b
	}
	return m.message(d, 0)
}

func (m *messages) message(d protoreflect.MessageDescriptor, depth int) []byte {
	var b []byte
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		switch m.random.IntN(8) {
		case 0: // left out
		case 1: // of another wire type
			b = protowire.AppendTag(b, f.Number(), protowire.Fixed64Type)
			b = protowire.AppendFixed64(b, m.random.Uint64())
		default:
			b = protowire.AppendTag(b, f.Number(), protowire.BytesType)
			if f.Message() != nil && depth < 3 {
				b = protowire.AppendBytes(b, m.message(f.Message(), depth+1))
			} else {
				b = protowire.AppendBytes(b, []byte(m.text()))
			}
		}
	}
	if m.random.IntN(4) == 0 { // an unknown field
		b = protowire.AppendTag(b, 1000, protowire.VarintType)
		b = protowire.AppendVarint(b, m.random.Uint64())
	}
	if len(b) > 0 && m.random.IntN(6) == 0 { // cut off
		b = b[:m.random.IntN(len(b))]
	}
	return b
}

// text returns what is valid nowhere: no name of a device, no account.
func (m *messages) text() string {
	hostile := []string{
		"", "\x00", "a\nb", "\x1b[2J", "\u202eada", "\u2066", "\ufeffada", "e\u0301", "\xff\xfe", "Ada Lovelace\u200b",
		"ada\u0000", "ADA\n", " ada", strings.Repeat("x", 65), strings.Repeat("\U0001f469", 100), strings.Repeat("y", 20_000),
	}
	switch m.random.IntN(4) {
	case 0:
		return bend(m.random, m.statement)
	case 1:
		return bend(m.random, m.signIn)
	case 2: // a statement of another shape, really encoded
		header := `{"alg":"none","kid":"x","typ":"y"}`
		return base64.RawURLEncoding.EncodeToString([]byte(header)) + "." +
			base64.RawURLEncoding.EncodeToString([]byte(fmt.Sprintf(`{"a":%d}`, m.random.Int()))) + "."
	}
	return hostile[m.random.IntN(len(hostile))]
}

// bend changes a string somewhere, into one that cannot be a device's name
// either, being too long or having a line break.
func bend(random *mathrand.Rand, s string) string {
	i := random.IntN(len(s))
	return s[:i] + "\n" + s[i:]
}

// dump returns all that a store holds but the minute in which a device was
// last seen.
func dump(t *testing.T, store approval.Store) string {
	t.Helper()
	var all strings.Builder
	err := store.View(t.Context(), func(tx approval.Tx) error {
		for _, bucket := range []string{"accounts", "activity", "devices_of_account", "keys", "invitations", "applications", "tokens", "sign_ins",
			"open", "requested_codes", "recovery", "recovery_tries", "tests", "requesters", "records", "records_of", "record_hashes", "notices"} {
			for key, value := range tx.Ascend(bucket, "") {
				if bucket == "devices_of_account" {
					value, _, _ = bytes.Cut(value, []byte(" ")) // its state
				}
				fmt.Fprintf(&all, "%s/%s = %s\n", bucket, key, value)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}
