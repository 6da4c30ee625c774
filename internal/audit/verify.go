package audit

import (
	"fmt"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// maxFindings is how many findings are told one by one. One forged record can
// make many others wrong.
const maxFindings = 20

// A Finding is something that is wrong, and where.
type Finding struct {
	Record  uint64 // its number; 0 if it is about the record as a whole
	Problem string // how a sentence about the record goes on
}

// String returns the finding as people read it: "record 17: it is missing".
func (f Finding) String() string {
	if f.Record == 0 {
		return "the record: " + f.Problem
	}
	return fmt.Sprintf("record %d: %s", f.Record, f.Problem)
}

// A Result is what verifying a record came to. It is in order if there are no
// findings.
type Result struct {
	Records    uint64 // that were there
	Statements uint64 // whose signatures were checked and are right
	Findings   []Finding
	More       uint64 // findings beyond those
	Head       Head   // of the checkpoint, if that was signed well
}

// A Verifier checks a record, document by document.
type Verifier struct {
	result     Result
	tree       Tree
	next       uint64    // the number that the next document should have
	last       tlog.Hash // leaf hash of the document with the number before that
	linked     bool      // last is known
	broken     bool      // numbers or hashes did not fit, so the tree cannot either
	remembered []memory
	trust      trust
}

// A memory is a checkpoint that somebody remembers, and the root that the
// record's tree had at that size.
type memory struct {
	head Head
	root tlog.Hash
	seen bool
}

// NewVerifier returns a Verifier of a record from its first document on.
// remembered are checkpoints that the record must contain, as devices remember
// them. The error says which of them is not signed well.
func NewVerifier(remembered ...Checkpoint) (*Verifier, error) {
	v := &Verifier{next: 1, linked: true, trust: newTrust()}
	for i, c := range remembered {
		head, err := c.Head()
		if err != nil {
			return nil, fmt.Errorf("the remembered checkpoint %d: %w", i+1, err)
		}
		v.remembered = append(v.remembered, memory{head: head})
	}
	slices.SortFunc(v.remembered, func(a, b memory) int {
		switch {
		case a.head.Size < b.head.Size:
			return -1
		case a.head.Size > b.head.Size:
			return 1
		}
		return 0
	})
	return v, nil
}

// find notes a finding. Of those about one record that follow each other only
// the first counts: the others are what it led to.
func (v *Verifier) find(record uint64, format string, args ...any) {
	all := v.result.Findings
	switch {
	case record > 0 && len(all) > 0 && all[len(all)-1].Record == record:
	case len(all) >= maxFindings:
		v.result.More++
	default:
		v.result.Findings = append(all, Finding{record, fmt.Sprintf(format, args...)})
	}
}

// Add takes the next document.
func (v *Verifier) Add(document []byte) {
	v.result.Records++
	hash := Hash(document)
	v.tree.Add(hash)
	for i := range v.remembered {
		if m := &v.remembered[i]; m.head.Size == v.tree.Size() {
			m.root, m.seen = v.tree.Root(), true
		}
	}
	r, err := Parse(document)
	switch {
	case err != nil:
		v.broken = true
		v.find(v.next, "it was changed: %v", err)
		v.next, v.last, v.linked = v.next+1, hash, true
		return
	case r.Sequence == v.next-1:
		v.broken = true
		v.find(r.Sequence, "it is there twice")
		return
	case r.Sequence < v.next:
		v.broken = true
		v.find(r.Sequence, "it stands behind record %d", v.next-1)
		v.judge(r)
		return
	case r.Sequence > v.next:
		v.broken = true
		v.find(v.next, "%s, record %d follows", missing(v.next, r.Sequence-1), r.Sequence)
		v.linked = false
	}
	v.link(r)
	v.next, v.last, v.linked = r.Sequence+1, hash, true
	v.judge(r)
}

// link checks that the document names the one before it.
func (v *Verifier) link(r Record) {
	want := ""
	if r.Sequence > 1 {
		want = HashString(v.last)
	}
	if v.linked && r.Previous != want {
		v.broken = true
		v.find(max(r.Sequence-1, 1), "it is not the document that record %d names as the one before it: it was changed or replaced", r.Sequence)
	}
}

// judge checks what the record tells of against what came before it.
func (v *Verifier) judge(r Record) {
	if problem := v.trust.judge(r); problem != "" {
		v.find(r.Sequence, "%s", problem)
	}
}

func missing(first, last uint64) string {
	if first == last {
		return "it is missing"
	}
	return fmt.Sprintf("it is missing, and so is what comes after it up to record %d", last)
}

// Finish ends the record with its newest checkpoint and returns what was found.
// The Verifier must not be used afterwards.
func (v *Verifier) Finish(c Checkpoint) Result {
	v.result.Statements = v.trust.statements
	head, err := c.Head()
	if err != nil {
		v.find(0, "its checkpoint is not signed by the key that comes with it: %v", err)
		return v.result
	}
	v.result.Head = head
	if d := v.trust.deployment; d != "" && d != head.Deployment {
		v.find(0, "the checkpoint is that of the deployment %s, and the devices signed for %s", head.Deployment, d)
	}
	size := v.tree.Size()
	same := v.contains()
	switch {
	case v.broken: // the place was named
	case size < head.Size:
		v.find(size+1, "%s: the checkpoint of %s counts them", missing(size+1, head.Size), stamp(head.Time))
	case size > head.Size:
		v.find(head.Size+1, "it is not in the tree that the checkpoint of %s signs, which ends before it", stamp(head.Time))
	case v.tree.Root() == head.Root:
	case same+1 >= size:
		v.find(size, "it was changed: the checkpoint of %s signs another", stamp(head.Time))
	default:
		v.find(size, "it was changed, or what stands between record %d and it was changed and all hashes made anew: the checkpoint of %s signs others", same, stamp(head.Time))
	}
	return v.result
}

// contains checks that the record holds what is remembered, and returns up to which
// record it is known to be unchanged by that.
func (v *Verifier) contains() (same uint64) {
	for _, m := range v.remembered {
		h := m.head
		switch {
		case h.Deployment != v.result.Head.Deployment:
			v.find(0, "the remembered checkpoint of %s is that of another deployment", stamp(h.Time))
		case h.Key != v.result.Head.Key:
			v.find(0, "it is signed with another key than the remembered checkpoint of %s", stamp(h.Time))
		case !m.seen && v.broken: // what is missing was named
		case !m.seen:
			v.find(v.tree.Size()+1, "%s: at %s there were %d records, which a device remembers; the end was cut off, or the server set back",
				missing(v.tree.Size()+1, h.Size), stamp(h.Time), h.Size)
		case m.root != h.Root && !v.broken:
			v.find(same+1, "it was changed, or one after it up to record %d was: at %s a device was shown others", h.Size, stamp(h.Time))
		case m.root == h.Root:
			same = h.Size
		}
	}
	return same
}

// stamp returns a time as findings spell it.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
