package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"encoding/gob"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/countersignd/countersign/internal/invitation"
	"github.com/countersignd/countersign/internal/pin"
	"github.com/countersignd/countersign/internal/statement"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// devicesPerAccount is how many devices a person has here: a phone, a laptop and
// a tablet.
const devicesPerAccount = 3

// fanAccount has as many devices as an account may have.
const fanAccount = "fan"

// accountName returns the name of the i-th account.
func accountName(i int) string { return fmt.Sprintf("account%05d", i) }

// Device is a trusted device. What is exported is kept in the file of devices.
type Device struct {
	ID, Account string
	IdentityKey []byte // private, in SEC 1
	ApprovalKey []byte // likewise
	Shown       []byte // in DER

	identity, approval *ecdsa.PrivateKey
	approvalID         string
	certificate        tls.Certificate
	counter            atomic.Uint64
}

func newDevice(account string) (*Device, error) {
	d := &Device{Account: account}
	identity, approval := newKey(), newKey()
	cert, err := pin.Certificate(identity, "bench")
	if err != nil {
		return nil, err
	}
	d.Shown = cert.Certificate[0]
	if d.IdentityKey, err = identity.Bytes(); err != nil {
		return nil, err
	}
	if d.ApprovalKey, err = approval.Bytes(); err != nil {
		return nil, err
	}
	return d, d.load()
}

// load makes what is not kept from what is.
func (d *Device) load() (err error) {
	if d.identity, err = ecdsa.ParseRawPrivateKey(elliptic.P256(), d.IdentityKey); err != nil {
		return err
	}
	if d.approval, err = ecdsa.ParseRawPrivateKey(elliptic.P256(), d.ApprovalKey); err != nil {
		return err
	}
	if d.ID, err = pin.KeyID(d.identity.Public()); err != nil {
		return err
	}
	if d.approvalID, err = pin.KeyID(d.approval.Public()); err != nil {
		return err
	}
	leaf, err := x509.ParseCertificate(d.Shown)
	if err != nil {
		return err
	}
	d.certificate = tls.Certificate{Certificate: [][]byte{d.Shown}, PrivateKey: d.identity, Leaf: leaf}
	return nil
}

// nextCounter returns a number that only rises, in this process and the next:
// microseconds since 1970.
func (d *Device) nextCounter() uint64 {
	for {
		last := d.counter.Load()
		next := max(last+1, uint64(time.Now().UnixMicro()))
		if d.counter.CompareAndSwap(last, next) {
			return next
		}
	}
}

// enrollment signs the device's request to be trusted.
func (d *Device) enrollment(deployment, serverKey, invited string) (string, error) {
	key, err := statement.NewJWK(&d.approval.PublicKey)
	if err != nil {
		return "", err
	}
	return statement.Sign(d.approval, statement.Enrollment{
		ApprovalKey: key,
		Aud:         deployment,
		Device:      d.ID,
		Iat:         time.Now().Unix(),
		Invitation:  invited,
		KeyStorage:  "file",
		Kind:        "phone",
		Name:        "Device " + d.ID[:8],
		ServerKey:   serverKey,
	})
}

// writeDevices keeps devices in a file.
func writeDevices(path string, devices []*Device) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(gob.NewEncoder(f).Encode(devices), f.Close())
}

// readDevices reads some of the devices in a file, or all from first on if count
// is negative.
func readDevices(path string, first, count int) ([]*Device, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var devices []*Device
	if err := gob.NewDecoder(f).Decode(&devices); err != nil {
		return nil, err
	}
	if count < 0 {
		count = len(devices) - first
	}
	if first+count > len(devices) {
		return nil, fmt.Errorf("devices %d to %d are wanted, and there are %d", first, first+count, len(devices))
	}
	devices = devices[first : first+count]
	return devices, parallel(len(devices), func(i int) error { return devices[i].load() })
}

// sourceOf returns the address that the i-th agent comes from, so that no
// address has more than a few and no one runs out of ports.
func sourceOf(i int) net.IP { return net.IPv4(127, byte(1+i/250%250), byte(1+i%250), 1) }

// dial prepares a connection from an address of its own. The buffers are small,
// because ten thousand of them are in one process.
func dial(t Target, source int, cert *tls.Certificate, options ...grpc.DialOption) (*grpc.ClientConn, error) {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: sourceOf(source)}, Timeout: patience}
	return grpc.NewClient("passthrough:///"+t.Address, append(options,
		grpc.WithTransportCredentials(credentials.NewTLS(pin.ClientConfig(cert, t.Pin))),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp4", address)
		}),
		grpc.WithReadBufferSize(0),
		grpc.WithWriteBufferSize(4<<10),
		grpc.WithStaticStreamWindowSize(64<<10),
		grpc.WithStaticConnWindowSize(64<<10),
		grpc.WithIdleTimeout(0),
		grpc.WithDisableServiceConfig(),
		grpc.WithNoProxy(),
	)...)
}

// patience is how long one step may take on a slow machine.
const patience = 60 * time.Second

// EnrollArgs say whom to enrol where.
type EnrollArgs struct {
	Target   Target
	Admin    string // path of the administrators' socket
	File     string // in which the devices are kept
	Accounts int    // with three devices each
	Fan      int    // devices of fanAccount
}

// Enroll adds accounts and enrols their devices, through the server, and keeps
// the devices in a file: those of the accounts first, one account after the
// other.
func (*Agents) Enroll(args EnrollArgs, _ *None) error {
	conn, err := grpc.NewClient("unix:"+args.Admin, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	admin := pb.NewAdminServiceClient(conn)
	ctx := context.Background()
	devices := make([]*Device, args.Accounts*devicesPerAccount+args.Fan)
	err = parallel(args.Accounts+1, func(i int) error {
		name, first, count := accountName(i), i*devicesPerAccount, devicesPerAccount
		if i == args.Accounts {
			name, count = fanAccount, args.Fan
		}
		if _, err := admin.AddAccount(ctx, &pb.AddAccountRequest{Name: name}); err != nil {
			return err
		}
		for j := first; j < first+count; j++ {
			d, err := newDevice(name)
			if err != nil {
				return err
			}
			if err := enroll(ctx, admin, args.Target, j, d); err != nil {
				return fmt.Errorf("enrolling device %d: %w", j, err)
			}
			devices[j] = d
		}
		return nil
	})
	if err != nil {
		return err
	}
	return writeDevices(args.File, devices)
}

func enroll(ctx context.Context, admin pb.AdminServiceClient, t Target, source int, d *Device) error {
	invited, err := admin.CreateInvitation(ctx, &pb.CreateInvitationRequest{Account: d.Account})
	if err != nil {
		return err
	}
	link, err := invitation.Parse(invited.GetLink())
	if err != nil {
		return err
	}
	signed, err := d.enrollment(t.Name, t.Pin, invitation.Hash(link.Token))
	if err != nil {
		return err
	}
	conn, err := dial(t, source, &d.certificate)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = pb.NewEnrollmentServiceClient(conn).EnrollDevice(ctx, &pb.EnrollDeviceRequest{InvitationToken: link.Token, Statement: signed})
	return err
}

// atOnce is how much is done at the same time where order does not matter.
const atOnce = 64

// parallel calls do for 0 to n-1, many at a time, and returns the first error.
func parallel(n int, do func(i int) error) error {
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var all sync.WaitGroup
	for range min(n, atOnce) {
		all.Go(func() {
			for failed.Load() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := do(i); err != nil {
					failed.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	all.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}
