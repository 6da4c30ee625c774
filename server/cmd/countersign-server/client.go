package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// callTimeout is how long a command waits for the server.
const callTimeout = 30 * time.Second

// pageSize is how much of a list is fetched at once.
const pageSize = 500

// administer calls do with a client of the running server.
func (e *environment) administer(do func(ctx context.Context, admin pb.AdminServiceClient) error) error {
	ctx, cancel := context.WithTimeout(e.ctx, callTimeout)
	defer cancel()
	return e.connect(ctx, do)
}

func (e *environment) connect(ctx context.Context, do func(ctx context.Context, admin pb.AdminServiceClient) error) error {
	d := e.dir()
	if err := answers(d); err != nil {
		return err
	}
	conn, err := grpc.NewClient("passthrough:///"+program, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", d.socket())
		}))
	if err != nil {
		return fmt.Errorf("connecting to the server: %w", err)
	}
	defer conn.Close()
	return inWords(do(ctx, pb.NewAdminServiceClient(conn)))
}

// answers makes sure that a server runs, to say in plain words if not.
func answers(d dataDir) error {
	if err := checkSocketPath(d.socket()); err != nil {
		return err
	}
	conn, err := net.DialTimeout("unix", d.socket(), callTimeout)
	switch {
	case err == nil:
		conn.Close()
		return nil
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("this user may not administer the server in %s: run this as root or as the user that the server runs as", d)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("the server is not running in %s: start it with  %s serve --data-dir %s  or say with --data-dir where it runs", d, program, d)
	}
	return fmt.Errorf("connecting to the server in %s: %w", d, err)
}

// inWords returns the sentence that an error of the API holds for a person.
func inWords(err error) error {
	st, ok := status.FromError(err)
	switch {
	case err == nil || !ok:
		return err
	case st.Code() == codes.DeadlineExceeded:
		return fmt.Errorf("the server did not answer within %v", callTimeout)
	case st.Code() == codes.Canceled:
		return errors.New("interrupted; the server may have done it all the same")
	}
	return errors.New(st.Message())
}

// all returns the pages of a list as one. Each of the pages that fetch returns
// comes with the token of the next one. No more than limit items are fetched,
// if limit is not 0.
func all[T any](limit int, fetch func(size int32, token string) ([]T, string, error)) ([]T, error) {
	var items []T
	for token := ""; ; {
		size := pageSize
		if limit > 0 {
			size = min(size, limit-len(items))
		}
		page, next, err := fetch(int32(size), token)
		if err != nil {
			return nil, err
		}
		items = append(items, page...)
		if next == "" || limit > 0 && len(items) >= limit {
			return items, nil
		}
		token = next
	}
}
