package agent

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// A fakeDelivery is what the fake knows of how far prompts have come.
type fakeDelivery struct {
	old     bool                            // it is from before there were reports
	failing int                             // so many more calls of ReportPrompts fail
	slow    chan struct{}                   // if not nil, ReportPrompts waits for it
	reports [][]*pb.PromptReport            // calls, as they came in
	stages  map[string]pb.DeliveryStage     // what they say now
	test    *pb.DeviceTest                  // the one test there is
	asked   string                          // who asked for it
	rawTest []*pb.TestPrompt                // sent as they are, behind the test
	service pb.PushService                  // that it pushes through
	push    map[string]*pb.PushRegistration // by device
	signIns []*pb.RecentSignIn              // newest first
}

func (f *fakeServer) testsLocked(d *fakeDevice) (list []*pb.TestPrompt) {
	if t := f.delivery.test; t.GetDeviceId() == d.Id && f.now().Before(t.GetExpireTime().AsTime()) && t.GetDelivery().GetAnswerTime() == nil {
		list = append(list, &pb.TestPrompt{Id: t.Id, RequestedBy: f.delivery.asked, CreateTime: t.CreateTime, ExpireTime: t.ExpireTime})
	}
	return append(list, f.delivery.rawTest...)
}

func (f *fakeServer) ReportPrompts(ctx context.Context, r *pb.ReportPromptsRequest) (response *pb.ReportPromptsResponse, err error) {
	f.mu.Lock()
	slow := f.delivery.slow
	f.mu.Unlock()
	if slow != nil {
		select {
		case <-slow:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	f.change(func() { response, err = f.reportLocked(ctx, r) })
	return response, err
}

func (f *fakeServer) reportLocked(ctx context.Context, r *pb.ReportPromptsRequest) (*pb.ReportPromptsResponse, error) {
	d := &f.delivery
	d.reports = append(d.reports, r.GetReports())
	switch caller, err := f.deviceLocked(ctx); {
	case d.old:
		return nil, status.Error(codes.Unimplemented, "unknown method ReportPrompts")
	case err != nil:
		return nil, err
	case len(r.GetReports()) > 32:
		return nil, reject(codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_INVALID_FIELD, "Too many.")
	case d.failing > 0:
		d.failing--
		return nil, reject(codes.Unavailable, pb.ErrorReason_ERROR_REASON_RATE_LIMITED, "Later.")
	default:
		if d.stages == nil {
			d.stages = make(map[string]pb.DeliveryStage)
		}
		for _, report := range r.GetReports() {
			d.stages[report.Id] = max(d.stages[report.Id], report.Stage)
			if t := d.test; t.GetId() == report.Id && t.GetDeviceId() == caller.Id {
				f.stepLocked(report.Stage)
			}
		}
		return &pb.ReportPromptsResponse{}, nil
	}
}

func (f *fakeServer) stepLocked(stage pb.DeliveryStage) {
	delivery, now := f.delivery.test.Delivery, timestamppb.New(f.now())
	delivery.Stage = max(delivery.Stage, stage)
	for s, set := range map[pb.DeliveryStage]**timestamppb.Timestamp{
		pb.DeliveryStage_DELIVERY_STAGE_RECEIVED: &delivery.ReceiveTime,
		pb.DeliveryStage_DELIVERY_STAGE_SHOWN:    &delivery.ShowTime,
		pb.DeliveryStage_DELIVERY_STAGE_ANSWERED: &delivery.AnswerTime,
	} {
		if delivery.Stage >= s && *set == nil {
			*set = now
		}
	}
}

// newTest makes a test prompt for a device.
func (f *fakeServer) newTest(device, asked string, lifetime time.Duration) string {
	var id string
	f.change(func() { id = f.newTestLocked(device, asked, lifetime) })
	return id
}

func (f *fakeServer) newTestLocked(device, asked string, lifetime time.Duration) string {
	id := fmt.Sprintf("%026d", f.now().UnixNano())
	f.delivery.asked = asked
	f.delivery.test = &pb.DeviceTest{
		Id: id, DeviceId: device, CreateTime: timestamppb.New(f.now()), ExpireTime: timestamppb.New(f.now().Add(lifetime)), Connected: true,
		Delivery: &pb.Delivery{DeviceId: device, Stage: pb.DeliveryStage_DELIVERY_STAGE_CONNECTED},
	}
	return id
}

func (f *fakeServer) TestDevice(r *pb.TestDeviceRequest, stream grpc.ServerStreamingServer[pb.TestDeviceResponse]) error {
	f.mu.Lock()
	caller, err := f.deviceLocked(stream.Context())
	if err == nil && f.devices[r.GetDeviceId()] == nil {
		err = reject(codes.NotFound, pb.ErrorReason_ERROR_REASON_NO_SUCH_DEVICE, "This account has no such device.")
	}
	f.mu.Unlock()
	if err != nil {
		return err
	}
	f.newTest(r.GetDeviceId(), caller.Id, 2*time.Minute)
	for {
		f.mu.Lock()
		test, changed := proto.CloneOf(f.delivery.test), f.changed
		f.mu.Unlock()
		if err := stream.Send(&pb.TestDeviceResponse{Test: test}); err != nil {
			return err
		}
		left := test.ExpireTime.AsTime().Sub(f.now())
		if test.Delivery.AnswerTime != nil || left <= 0 {
			return nil
		}
		select {
		case <-changed:
		case <-time.After(left):
		case <-stream.Context().Done():
			return nil
		}
	}
}

func (f *fakeServer) UpdateDevice(ctx context.Context, r *pb.UpdateDeviceRequest) (*pb.UpdateDeviceResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, err := f.deviceLocked(ctx)
	if err != nil {
		return nil, err
	}
	if r.GetName() != "" {
		d.Name = r.GetName()
	}
	if p := r.GetPush(); p != nil {
		status := &pb.PushStatus{RegisterTime: timestamppb.New(f.now())}
		switch {
		case p.GetApns() != nil:
			status.Service = pb.PushService_PUSH_SERVICE_APNS
		case p.GetWebPush() != nil:
			status.Service = pb.PushService_PUSH_SERVICE_WEB_PUSH
		case p.GetNone() != nil:
			status = nil
		}
		if status != nil && status.Service != f.delivery.service {
			return nil, reject(codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_PUSH_NOT_CONFIGURED, "This server does not push through that service.")
		}
		if f.delivery.push == nil {
			f.delivery.push = make(map[string]*pb.PushRegistration)
		}
		f.delivery.push[d.Id], d.Push = p, status
	}
	return &pb.UpdateDeviceResponse{Device: proto.CloneOf(d.Device)}, nil
}

func (f *fakeServer) ListRecentSignIns(ctx context.Context, r *pb.ListRecentSignInsRequest) (*pb.ListRecentSignInsResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.deviceLocked(ctx); err != nil {
		return nil, err
	}
	if r.GetPageSize() < 1 || r.GetPageSize() > 100 {
		return nil, reject(codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_INVALID_FIELD, "At most 100.")
	}
	first := 0
	if r.GetPageToken() != "" {
		if _, err := fmt.Sscan(r.GetPageToken(), &first); err != nil {
			return nil, reject(codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_INVALID_FIELD, "No page.")
		}
	}
	all := f.delivery.signIns
	end := min(first+int(r.GetPageSize()), len(all))
	response := &pb.ListRecentSignInsResponse{SignIns: all[first:end]}
	if end < len(all) {
		response.NextPageToken = fmt.Sprint(end)
	}
	return response, nil
}
