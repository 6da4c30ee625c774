package approval

// A Lane is who asks, as far as that is known when a sign-in begins. Budgets,
// gaps and failures are counted for each lane on its own, so that a stranger
// can use up and close nothing but the lane of strangers.
type Lane string

// The lanes. The empty Lane is none of them.
const (
	LaneKnown     Lane = "known"     // the requester finished a sign-in of this account lately
	LaneUnknown   Lane = "unknown"   // all others for whom an application asks
	LaneEnrolment Lane = "enrolment" // a device asks to be trusted
)

// Lanes returns every lane.
func Lanes() []Lane { return []Lane{LaneKnown, LaneUnknown, LaneEnrolment} }
