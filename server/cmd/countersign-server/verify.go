package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/countersignd/countersign/internal/audit"
	"github.com/countersignd/countersign/internal/proquint"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// walkRecords calls take with each document that the request asks for, the oldest
// first. It fetches page by page, so that the server waits for nobody.
func walkRecords(ctx context.Context, admin pb.AdminServiceClient, req *pb.ListAuditRecordsRequest, take func(document []byte) error) error {
	req.OldestFirst, req.PageSize = true, pageSize
	for {
		page, err := patiently(ctx, func(ctx context.Context) (*pb.ListAuditRecordsResponse, error) {
			return admin.ListAuditRecords(ctx, req)
		})
		if err != nil {
			return err
		}
		for _, r := range page.GetRecords() {
			if err := take(r.GetDocument()); err != nil {
				return err
			}
		}
		if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
			return nil
		}
	}
}

// patiently makes one of many calls, each of which may take callTimeout.
func patiently[T any](ctx context.Context, call func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return call(ctx)
}

// walkRecord is walkRecords for all that there is, with a checkpoint of it at
// the end. What is recorded meanwhile is in both.
func walkRecord(ctx context.Context, admin pb.AdminServiceClient, take func(document []byte) error) (audit.Checkpoint, error) {
	var last []byte
	n := uint64(0)
	count := func(document []byte) error {
		n++
		last = document
		return take(document)
	}
	if err := walkRecords(ctx, admin, &pb.ListAuditRecordsRequest{}, count); err != nil {
		return audit.Checkpoint{}, err
	}
	c, size, err := newestCheckpoint(ctx, admin)
	if err != nil || n >= size {
		return c, err
	}
	// The rest, up to where the checkpoint reaches.
	enough := errors.New("enough")
	r, err := audit.Parse(last)
	if err != nil {
		return c, nil // the next one's place is not known; the verifier says what is wrong
	}
	err = walkRecords(ctx, admin, &pb.ListAuditRecordsRequest{PageToken: fmt.Sprintf("%016x", r.Sequence)}, func(document []byte) error {
		if n == size {
			return enough
		}
		return count(document)
	})
	if errors.Is(err, enough) {
		err = nil
	}
	return c, err
}

func newestCheckpoint(ctx context.Context, admin pb.AdminServiceClient) (c audit.Checkpoint, size uint64, err error) {
	resp, err := patiently(ctx, func(ctx context.Context) (*pb.GetCheckpointResponse, error) {
		return admin.GetCheckpoint(ctx, &pb.GetCheckpointRequest{})
	})
	if err != nil {
		return c, 0, err
	}
	m := resp.GetCheckpoint()
	c, err = audit.ParseCheckpoint(fmt.Appendf(nil, `{"checkpoint":%q,"key":%s}`, m.GetStatement(), m.GetKey()))
	return c, resp.GetSize(), err
}

type auditCheckpointCmd struct{ jsonFlag }

// Help implements [kong.HelpProvider].
func (auditCheckpointCmd) Help() string {
	return `Keep what --json prints in another place, and give it to  audit verify --checkpoint  later: then nothing that is on record now can be changed or removed unseen.

With --json: one line, {"checkpoint", "key"}: a statement signed by the server, and the public key that shows it.`
}

// Run prints the newest checkpoint.
func (c *auditCheckpointCmd) Run(env *environment) error {
	return env.administer(func(ctx context.Context, admin pb.AdminServiceClient) error {
		checkpoint, _, err := newestCheckpoint(ctx, admin)
		if err != nil {
			return err
		}
		if c.JSON {
			_, err := fmt.Fprintf(env.out, "%s\n", checkpoint.Line())
			return err
		}
		head, err := checkpoint.Head()
		if err != nil {
			return err
		}
		s := newSheet(env)
		s.line("Records", fmt.Sprint(head.Size))
		s.line("Time", head.Time.Local().Format("2006-01-02 15:04:05 MST"))
		s.line("Root", audit.HashString(head.Root))
		s.line("Signed by", keyWords(head.Key))
		return s.print()
	})
}

// keyWords names a key for people to compare.
func keyWords(id string) string { return proquint.OfKey(id) + " (" + id + ")" }

type auditExportCmd struct {
	recordFilter
	Output string `type:"path" placeholder:"FILE" help:"Write to this new file, which only its owner can read. Default: standard output."`
}

// Help implements [kong.HelpProvider].
func (auditExportCmd) Help() string {
	return `Each line is one record, as JSON, byte for byte as the server keeps it, the oldest first. Without a filter the last line is the server's signed checkpoint, {"checkpoint", "key"}, and  audit verify FILE  checks the whole, on any machine. docs/protocol.md describes every member.`
}

// Run exports the record.
func (c *auditExportCmd) Run(env *environment) error {
	req, err := c.request(time.Now())
	if err != nil {
		return err
	}
	export := func(out io.Writer) error {
		buffered := bufio.NewWriterSize(out, 64<<10)
		line := func(b []byte) error {
			buffered.Write(b)
			return buffered.WriteByte('\n') // an error of Write comes again here
		}
		err := env.connect(env.ctx, func(ctx context.Context, admin pb.AdminServiceClient) error {
			if !c.all() {
				return walkRecords(ctx, admin, req, line)
			}
			checkpoint, err := walkRecord(ctx, admin, line)
			if err != nil {
				return err
			}
			return line(checkpoint.Line())
		})
		return errors.Join(err, buffered.Flush())
	}
	if c.Output == "" {
		return export(env.out)
	}
	f, err := os.OpenFile(c.Output, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("there is a file %s already: remove it or choose another name", c.Output)
	}
	if err != nil {
		return fmt.Errorf("writing the export: %w", err)
	}
	if err := errors.Join(export(f), f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(c.Output)) // half an export is worse than none
	}
	fmt.Fprintf(env.out, "Wrote %s.\n", c.Output)
	return nil
}

type auditVerifyCmd struct {
	File       string   `arg:"" optional:"" help:"An export, or - for standard input. Default: the record of the running server."`
	Checkpoint []string `type:"existingfile" placeholder:"FILE" help:"A checkpoint that the record must contain, as a device remembers it (countersign-agent record --json) or as it was kept (audit checkpoint --json). May be given several times."`
	jsonFlag
}

// Help implements [kong.HelpProvider].
func (auditVerifyCmd) Help() string {
	return `Checks that the numbers have no gaps, that each record names the one before it, that all of them together are what the checkpoint signs, and that each signature is that of a device that was trusted at that moment, about what the record says. It names the records that are wrong, and then exits with 1.

A server that has made its whole record anew signs that too. Give a checkpoint that a device remembers, and that shows as well. And compare the key that it prints with  keys jwks  of the real server.

With --json: {"records", "statements" (signatures that were checked), "time" (of the checkpoint), "key" (its key id), "findings": [{"record" (0: the whole), "problem"}], "more" (findings that are not listed)}`
}

// errNotInOrder is what verify ends with when something is wrong.
var errNotInOrder = errors.New("the record is NOT in order")

// Run verifies.
func (c *auditVerifyCmd) Run(env *environment) error {
	remembered, err := c.remembered()
	if err != nil {
		return err
	}
	result, err := c.verify(env, remembered)
	if err != nil && !errors.Is(err, audit.ErrPart) {
		return err
	}
	if c.JSON {
		if err := env.printJSON(resultObject(result)); err != nil {
			return err
		}
	} else {
		env.printResult(result, err == nil)
	}
	if err == nil && len(result.Findings) > 0 {
		err = errNotInOrder
	}
	return err
}

func (c *auditVerifyCmd) remembered() ([]audit.Checkpoint, error) {
	var all []audit.Checkpoint
	for _, name := range c.Checkpoint {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		if n := len(b); n > 0 && b[n-1] == '\n' {
			b = b[:n-1]
		}
		checkpoint, err := audit.ParseCheckpoint(b)
		if err != nil {
			return nil, usageError{fmt.Errorf("%s: %w", name, err)}
		}
		all = append(all, checkpoint)
	}
	return all, nil
}

func (c *auditVerifyCmd) verify(env *environment, remembered []audit.Checkpoint) (result audit.Result, err error) {
	switch c.File {
	case "-":
		return audit.VerifyExport(os.Stdin, remembered...)
	case "":
		v, err := audit.NewVerifier(remembered...)
		if err != nil {
			return result, err
		}
		err = env.connect(env.ctx, func(ctx context.Context, admin pb.AdminServiceClient) error {
			checkpoint, err := walkRecord(ctx, admin, func(document []byte) error {
				v.Add(document)
				return nil
			})
			if err != nil {
				return err
			}
			result = v.Finish(checkpoint)
			return nil
		})
		return result, err
	}
	f, err := os.Open(filepath.Clean(c.File))
	if err != nil {
		return result, err
	}
	defer f.Close()
	return audit.VerifyExport(f, remembered...)
}

func (e *environment) printResult(r audit.Result, whole bool) {
	for _, f := range r.Findings {
		e.hang("", safe(f.String()))
	}
	if r.More > 0 {
		fmt.Fprintf(e.out, "… and %d more\n", r.More)
	}
	sum := counted(int(r.Records), "record") + ", " + counted(int(r.Statements), "signature")
	if whole && len(r.Findings) == 0 {
		sum += ", consistent with the checkpoint of " + r.Head.Time.Format("2006-01-02 15:04:05 UTC")
	}
	e.hang("", sum)
	if r.Head.Key != "" {
		e.hang("", "signed by the key "+keyWords(r.Head.Key))
	}
}

type findingJSON struct {
	Record  uint64 `json:"record"`
	Problem string `json:"problem"`
}

type resultJSON struct {
	Records    uint64        `json:"records"`
	Statements uint64        `json:"statements"`
	Time       int64         `json:"time,omitempty"`
	Key        string        `json:"key,omitempty"`
	Findings   []findingJSON `json:"findings"`
	More       uint64        `json:"more"`
}

func resultObject(r audit.Result) resultJSON {
	object := resultJSON{Records: r.Records, Statements: r.Statements, Key: r.Head.Key, More: r.More, Findings: []findingJSON{}}
	if !r.Head.Time.IsZero() {
		object.Time = r.Head.Time.Unix()
	}
	for _, f := range r.Findings {
		object.Findings = append(object.Findings, findingJSON{f.Record, f.Problem})
	}
	return object
}
