package server_test

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"strings"
	"testing"

	"github.com/countersignd/countersign/internal/countersigntest"
	"github.com/countersignd/countersign/internal/pin"
	"github.com/countersignd/countersign/server"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// A device is told the key to subscribe with, and none where there is no Web Push.
func TestWebPushKey(t *testing.T) {
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range [][]byte{nil, key.PublicKey().Bytes()} {
		system := countersigntest.New(t, &countersigntest.Options{WebPushKey: want})
		system.AddAccount("ada")
		self, err := system.EnrollDevice("ada").Client.GetSelf(t.Context(), &pb.GetSelfRequest{})
		if err != nil || !bytes.Equal(self.GetWebPushKey(), want) {
			t.Errorf("GetSelf has the Web Push key %x, %v, want %x", self.GetWebPushKey(), err, want)
		}
	}
}

// A key that no device can subscribe with stops the server.
func TestWebPushKeyIsChecked(t *testing.T) {
	system := countersigntest.New(t, nil)
	cert, err := pin.Certificate(system.ServerKey, "test")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range [][]byte{{4}, bytes.Repeat([]byte{4}, 65)} {
		_, err := server.New(server.Config{
			Broker: system.Broker, Certificate: tls.Certificate{Certificate: cert.Certificate, PrivateKey: system.ServerKey},
			PublicAddress: "127.0.0.1:1", WebPushKey: key,
			Backup: func(context.Context, string) (int64, error) { return 0, nil },
		})
		if err == nil || !strings.Contains(err.Error(), "the Web Push key") {
			t.Errorf("New with the Web Push key %x = %v, want it refused", key, err)
		}
	}
}
