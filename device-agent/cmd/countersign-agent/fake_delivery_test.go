package main

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// A fakeDelivery is what the fake knows of how far prompts have come.
type fakeDelivery struct {
	test     *pb.DeviceTest // the one test there is
	lifetime time.Duration  // of tests
	watching bool           // the device has a stream
	recent   []*pb.RecentSignIn
	key      []byte // of Web Push; nil: it has none
	rings    int32
}

func (f *fakeServer) testsLocked() []*pb.TestPrompt {
	t := f.delivery.test
	if t.GetDeviceId() != f.device.GetId() || !time.Now().Before(t.GetExpireTime().AsTime()) || t.GetDelivery().GetAnswerTime() != nil {
		return nil
	}
	return []*pb.TestPrompt{{Id: t.Id, RequestedBy: "device " + f.device.Id, CreateTime: t.CreateTime, ExpireTime: t.ExpireTime}}
}

func (f *fakeServer) ReportPrompts(_ context.Context, r *pb.ReportPromptsRequest) (*pb.ReportPromptsResponse, error) {
	now := timestamppb.Now()
	f.change(func() {
		for _, report := range r.GetReports() {
			if f.device.LastReachedTime = now; report.Id == f.signIn.GetId() {
				f.signIn.Delivery.Received = 1
				if report.Stage >= pb.DeliveryStage_DELIVERY_STAGE_SHOWN {
					f.signIn.Delivery.Shown = 1
				}
			}
			if report.Id != f.delivery.test.GetId() {
				continue
			}
			d := f.delivery.test.Delivery
			for stage, set := range map[pb.DeliveryStage]**timestamppb.Timestamp{
				pb.DeliveryStage_DELIVERY_STAGE_RECEIVED: &d.ReceiveTime,
				pb.DeliveryStage_DELIVERY_STAGE_SHOWN:    &d.ShowTime,
				pb.DeliveryStage_DELIVERY_STAGE_ANSWERED: &d.AnswerTime,
			} {
				if report.Stage >= stage && *set == nil {
					*set = now
				}
			}
			d.Stage = max(d.Stage, report.Stage)
		}
	})
	return &pb.ReportPromptsResponse{}, nil
}

func (f *fakeServer) TestDevice(r *pb.TestDeviceRequest, stream grpc.ServerStreamingServer[pb.TestDeviceResponse]) error {
	now := time.Now()
	id := fmt.Sprintf("%026d", now.UnixNano())
	f.change(func() {
		stage := pb.DeliveryStage_DELIVERY_STAGE_NOT_CONNECTED
		connected := f.delivery.watching && r.GetDeviceId() == f.device.Id
		if connected {
			stage = pb.DeliveryStage_DELIVERY_STAGE_CONNECTED
		}
		f.delivery.test = &pb.DeviceTest{
			Id: id, DeviceId: r.GetDeviceId(), CreateTime: timestamppb.New(now), ExpireTime: timestamppb.New(now.Add(f.delivery.lifetime)),
			Connected: connected, Delivery: &pb.Delivery{DeviceId: r.GetDeviceId(), Stage: stage},
		}
	})
	for {
		f.mu.Lock()
		test, changed := copyOf(f.delivery.test), f.changed
		f.mu.Unlock()
		if test.Id != id { // another one took its place
			return nil
		}
		over := test.Delivery.AnswerTime != nil || !time.Now().Before(test.ExpireTime.AsTime())
		if err := stream.Send(&pb.TestDeviceResponse{Test: test}); err != nil || over {
			return err
		}
		select {
		case <-changed:
		case <-time.After(time.Until(test.ExpireTime.AsTime())):
		case <-stream.Context().Done():
			return nil
		}
	}
}

func (f *fakeServer) UpdateDevice(_ context.Context, r *pb.UpdateDeviceRequest) (response *pb.UpdateDeviceResponse, err error) {
	f.change(func() {
		switch {
		case r.GetPush().GetWebPush() != nil && f.delivery.key == nil:
			err = reject(codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_PUSH_NOT_CONFIGURED, nil)
			return
		case r.GetPush().GetWebPush() != nil:
			f.device.Push = &pb.PushStatus{Service: pb.PushService_PUSH_SERVICE_WEB_PUSH, Host: "push.example.org", RegisterTime: timestamppb.Now()}
		case r.GetPush().GetNone() != nil:
			f.device.Push = nil
		}
		response = &pb.UpdateDeviceResponse{Device: copyOf(f.device)}
	})
	return response, err
}

func (f *fakeServer) ListRecentSignIns(_ context.Context, r *pb.ListRecentSignInsRequest) (*pb.ListRecentSignInsResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &pb.ListRecentSignInsResponse{SignIns: f.delivery.recent[:min(int(r.GetPageSize()), len(f.delivery.recent))]}, nil
}
