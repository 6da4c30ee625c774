package agent

import (
	"context"
	"errors"
	"io"

	countersignv1 "github.com/countersignd/countersign/proto/countersign/v1"
)

// TestDevice sends a test prompt to a device of this device's account, which may be
// this one, and hands each step to told, in order and on this goroutine. It returns
// when the test is over: it was put away, or its time has ended; the last step says
// which. If the connection breaks, the test goes on without being told of, and the
// error says so.
func (a *Agent) TestDevice(ctx context.Context, device string, told func(*countersignv1.DeviceTest)) error {
	conn, done, err := a.borrow()
	if err != nil {
		return err
	}
	defer done()
	stream, err := countersignv1.NewDeviceServiceClient(conn).TestDevice(ctx, &countersignv1.TestDeviceRequest{DeviceId: device})
	if err != nil {
		return a.explain(conn, err)
	}
	for steps := 0; ; steps++ {
		response, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF) && steps > 0:
			return nil
		case errors.Is(err, io.EOF):
			return errors.New("the server told nothing of the test: try again")
		case err != nil:
			return a.explain(conn, err)
		case response.GetTest().GetDeviceId() != device:
			return errors.New("the server tells of a test of another device than was asked for")
		}
		told(response.GetTest())
	}
}

// maxPage is how many sign-ins are asked for at once. The server gives up to 100,
// but with all that may be said of 20 devices, fewer stay below maxAnswer.
const maxPage = 25

// RecentSignIns returns the sign-ins of this device's account, newest first, at
// most n of them. Texts in them are a stranger's words.
func (a *Agent) RecentSignIns(ctx context.Context, n int) ([]*countersignv1.RecentSignIn, error) {
	conn, done, err := a.borrow()
	if err != nil {
		return nil, err
	}
	defer done()
	client := countersignv1.NewDeviceServiceClient(conn)
	var all []*countersignv1.RecentSignIn
	for token := ""; len(all) < n; {
		page, err := client.ListRecentSignIns(ctx, &countersignv1.ListRecentSignInsRequest{PageSize: int32(min(n-len(all), maxPage)), PageToken: token})
		if err != nil {
			return nil, a.explain(conn, err)
		}
		all = append(all, page.GetSignIns()...)
		if token = page.GetNextPageToken(); token == "" {
			break
		}
	}
	return all[:min(n, len(all))], nil
}
