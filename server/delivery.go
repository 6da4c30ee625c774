package server

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/countersignd/countersign/server/approval"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// This file serves how far prompts have come, test prompts, and how devices are
// woken. No answer holds a token or an endpoint.

// ReportPrompts implements the API.
func (d *deviceService) ReportPrompts(ctx context.Context, req *pb.ReportPromptsRequest) (*pb.ReportPromptsResponse, error) {
	reports := make([]approval.Report, len(req.GetReports()))
	for i, r := range req.GetReports() {
		reports[i] = approval.Report{ID: r.GetId(), Stage: reportedStage(r.GetStage())}
	}
	if err := d.server.broker.ReportPrompts(ctx, callerOf(ctx).device, reports); err != nil {
		return nil, err
	}
	return &pb.ReportPromptsResponse{}, nil
}

// ListRecentSignIns implements the API.
func (d *deviceService) ListRecentSignIns(ctx context.Context, req *pb.ListRecentSignInsRequest) (*pb.ListRecentSignInsResponse, error) {
	signIns, next, err := d.server.broker.RecentSignIns(ctx, callerOf(ctx).device, page(req))
	if err != nil {
		return nil, err
	}
	resp, now := &pb.ListRecentSignInsResponse{NextPageToken: next}, d.server.broker.Now()
	for i := range signIns {
		s := &signIns[i]
		m := signInMessage(s, now)
		m.GetRequester().Session = "" // the application's own business
		resp.SignIns = append(resp.SignIns, &pb.RecentSignIn{
			SignIn: m, ApplicationName: s.ApplicationName, Deliveries: deliveryMessages(s.Deliveries),
		})
	}
	return resp, nil
}

// TestDevice implements the API.
func (d *deviceService) TestDevice(req *pb.TestDeviceRequest, stream grpc.ServerStreamingServer[pb.TestDeviceResponse]) error {
	ctx, who := stream.Context(), callerOf(stream.Context())
	target := req.GetDeviceId()
	id, err := d.server.broker.TestDevice(ctx, who.device, target, remoteIP(ctx))
	if err != nil {
		return err
	}
	return d.server.watchTest(ctx, stream, id,
		func() (approval.DeviceTest, error) { return d.server.broker.Test(ctx, who.device, target, id) },
		func(t *pb.DeviceTest) proto.Message { return &pb.TestDeviceResponse{Test: t} })
}

// TestAccountDevice implements the API.
func (a *adminService) TestAccountDevice(req *pb.TestAccountDeviceRequest, stream grpc.ServerStreamingServer[pb.TestAccountDeviceResponse]) error {
	ctx := stream.Context()
	admin := a.administrator(ctx)
	id, device, err := admin.TestDevice(ctx, req.GetDevice())
	if err != nil {
		return err
	}
	return a.server.watchTest(ctx, stream, id,
		func() (approval.DeviceTest, error) { return admin.Test(ctx, device, id) },
		func(t *pb.DeviceTest) proto.Message { return &pb.TestAccountDeviceResponse{Test: t} })
}

// watchTest sends what became of a test prompt, whenever that changes, until it
// is over.
func (s *Server) watchTest(ctx context.Context, stream grpc.ServerStream, id string, read func() (approval.DeviceTest, error), answer func(*pb.DeviceTest) proto.Message) error {
	watch := s.broker.WatchTest(id)
	defer watch.Close()
	var last *pb.DeviceTest
	for {
		test, err := read()
		if err != nil {
			return err
		}
		if test.Created.IsZero() {
			return nil // a newer one has replaced it, and nothing more is known
		}
		if m := testMessage(&test); last == nil || !proto.Equal(m, last) {
			if err := s.send(stream, answer(m)); err != nil {
				return err
			}
			last = m
		}
		if test.Over {
			return nil
		}
		// Whether the device has opened its stream is not rung here.
		if err := s.waitUntil(ctx, watch, earlier(s.broker.Now().Add(time.Second), test.Expires)); err != nil {
			return err
		}
	}
}

func testMessage(t *approval.DeviceTest) *pb.DeviceTest {
	return &pb.DeviceTest{
		Id:         t.ID,
		DeviceId:   t.Device,
		CreateTime: timestamp(t.Created),
		ExpireTime: timestamp(t.Expires),
		Connected:  t.Connected,
		Delivery:   deliveryMessage(&t.Delivery),
	}
}

func deliveryMessage(d *approval.Delivery) *pb.Delivery {
	m := &pb.Delivery{
		DeviceId:    d.Device,
		DeviceName:  d.Name,
		Stage:       deliveryStage(d.Stage),
		PushTime:    timestamp(d.Pushed),
		ReceiveTime: timestamp(d.Received),
		ShowTime:    timestamp(d.Shown),
		AnswerTime:  timestamp(d.Answered),
	}
	if d.PushFailed.After(d.Pushed) {
		m.PushFailureTime, m.PushFailure = timestamp(d.PushFailed), d.PushFailure
	}
	return m
}

func deliveryMessages(deliveries []approval.Delivery) []*pb.Delivery {
	messages := make([]*pb.Delivery, len(deliveries))
	for i := range deliveries {
		messages[i] = deliveryMessage(&deliveries[i])
	}
	return messages
}

func countsMessage(c approval.DeliveryCounts) *pb.DeliveryCounts {
	return &pb.DeliveryCounts{
		Pushed:      int32(c.Pushed),
		PushRefused: int32(c.PushRefused),
		Received:    int32(c.Received),
		Shown:       int32(c.Shown),
		Answered:    int32(c.Answered),
	}
}

func deliveryStage(s approval.DeliveryStage) pb.DeliveryStage {
	switch s {
	case approval.DeliveryNotConnected:
		return pb.DeliveryStage_DELIVERY_STAGE_NOT_CONNECTED
	case approval.DeliveryPushRefused:
		return pb.DeliveryStage_DELIVERY_STAGE_PUSH_REFUSED
	case approval.DeliveryPushed:
		return pb.DeliveryStage_DELIVERY_STAGE_PUSHED
	case approval.DeliveryConnected:
		return pb.DeliveryStage_DELIVERY_STAGE_CONNECTED
	case approval.DeliveryReceived:
		return pb.DeliveryStage_DELIVERY_STAGE_RECEIVED
	case approval.DeliveryShown:
		return pb.DeliveryStage_DELIVERY_STAGE_SHOWN
	case approval.DeliveryAnswered:
		return pb.DeliveryStage_DELIVERY_STAGE_ANSWERED
	}
	return pb.DeliveryStage_DELIVERY_STAGE_UNSPECIFIED
}

// reportedStage returns what a device may say; all else is no stage.
func reportedStage(s pb.DeliveryStage) approval.DeliveryStage {
	switch s {
	case pb.DeliveryStage_DELIVERY_STAGE_RECEIVED:
		return approval.DeliveryReceived
	case pb.DeliveryStage_DELIVERY_STAGE_SHOWN:
		return approval.DeliveryShown
	case pb.DeliveryStage_DELIVERY_STAGE_ANSWERED:
		return approval.DeliveryAnswered
	}
	return 0
}

func pushMessage(p *approval.Push) *pb.PushStatus {
	if p == nil {
		return nil
	}
	return &pb.PushStatus{
		Service:      pushService(p.Service),
		Host:         p.Host(),
		RegisterTime: timestamp(p.Registered),
		AcceptTime:   timestamp(p.Accepted),
		FailureTime:  timestamp(p.Failed),
		Failure:      p.Failure,
		Dead:         p.Dead,
	}
}

func pushService(s approval.PushService) pb.PushService {
	switch s {
	case approval.PushAPNs:
		return pb.PushService_PUSH_SERVICE_APNS
	case approval.PushWebPush:
		return pb.PushService_PUSH_SERVICE_WEB_PUSH
	}
	return pb.PushService_PUSH_SERVICE_UNSPECIFIED
}

func pushServices(all []approval.PushServiceStatus) []pb.PushService {
	services := make([]pb.PushService, len(all))
	for i, s := range all {
		services[i] = pushService(s.Service)
	}
	return services
}

// pushChange returns what a device registers, or nil if it registers nothing.
func pushChange(m *pb.PushRegistration) (*approval.PushChange, error) {
	if m == nil {
		return nil, nil
	}
	switch service := m.GetService().(type) {
	case *pb.PushRegistration_Apns:
		return &approval.PushChange{Service: approval.PushAPNs, Address: approval.PushAddress{Token: service.Apns.GetToken()}}, nil
	case *pb.PushRegistration_WebPush:
		w := service.WebPush
		return &approval.PushChange{Service: approval.PushWebPush, Address: approval.PushAddress{
			Endpoint: w.GetEndpoint(), P256DH: w.GetP256Dh(), Auth: w.GetAuth(),
		}}, nil
	case *pb.PushRegistration_None:
		return &approval.PushChange{}, nil
	}
	return nil, invalidField("push", "say through which service the device is woken, or that it is not")
}
