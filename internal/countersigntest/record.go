package countersigntest

import (
	"context"
	"encoding/json"

	"github.com/countersignd/countersign/internal/audit"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// VerifyRecord reads the whole record and verifies it, as an auditor does. It
// must contain what is remembered of it.
func (s *System) VerifyRecord(ctx context.Context, remembered ...audit.Checkpoint) (audit.Result, error) {
	v, err := audit.NewVerifier(remembered...)
	if err != nil {
		return audit.Result{}, err
	}
	req := &pb.ListAuditRecordsRequest{OldestFirst: true}
	for {
		page, err := s.Admin.ListAuditRecords(ctx, req)
		if err != nil {
			return audit.Result{}, err
		}
		for _, r := range page.GetRecords() {
			v.Add(r.GetDocument())
		}
		if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
			break
		}
	}
	newest, err := s.Admin.GetCheckpoint(ctx, &pb.GetCheckpointRequest{})
	if err != nil {
		return audit.Result{}, err
	}
	c, err := Checkpoint(newest.GetCheckpoint())
	return v.Finish(c), err
}

// Checkpoint returns a checkpoint of the API as package audit has it.
func Checkpoint(m *pb.Checkpoint) (audit.Checkpoint, error) {
	c := audit.Checkpoint{Statement: m.GetStatement()}
	err := json.Unmarshal([]byte(m.GetKey()), &c.Key)
	return c, err
}

// verifyAtTheEnd fails the test if its record is not in order: whatever a test
// does, an auditor must not stumble over it. A System whose store is out of
// order, or that was stopped, has none to show.
func (s *System) verifyAtTheEnd() {
	if s.stop == nil {
		return
	}
	result, err := s.VerifyRecord(context.Background())
	if err != nil {
		return
	}
	for _, f := range result.Findings {
		s.t.Errorf("the record does not verify: %v", f)
	}
}
