// Package approval is the heart of Countersign: every rule about accounts,
// devices, applications and sign-ins lives here, on top of a [Store] that
// knows none of them, and below a transport that decides nothing.
//
// # What may happen
//
// An application opens a sign-in ([Broker.BeginSignIn]). Every trusted device
// of the account reads what it must show ([Broker.Screen]) and one of them
// hands in a signed decision ([Broker.Decide]). After an Allow, that device
// alone is shown six digits. Typed on the requesting device they are compared
// ([Broker.VerifySignIn]), once, and the application gets a grant and a receipt.
//
// Whether a device counts is decided by mayApprove, in device.go. What may
// become of a sign-in is decided by [SignIn.next], in machine.go, a pure
// function. Nothing else decides either.
//
// # Order
//
// Every operation is one transaction. It checks the caller, the sign-in, the
// counters and the policy against the store, never against what was true when
// a stream began; it writes; it appends to the audit record; it commits. Only
// then does it ring and return. So whatever a person was shown (a prompt, a
// code, "you are in") survives a crash, and what a power cut interrupts was
// shown to nobody:
//
//	sign-in stored        before  a device shows it
//	decision stored       before  the code is returned
//	try counted           before  the comparison's result is returned
//	code used up          before  the grant is made
//	revocation stored     before  it is confirmed, or streams are ended
//	device trusted        before  it is told so
//
// Signatures are checked before the transaction, with the key that the device
// has had since it was enrolled and keeps for life; that the device still
// counts is checked inside.
//
// # What is stored, and what is not
//
// Tokens and invitations are stored as hashes. Codes and nonces are not stored
// at all: they are derived from keys that lie outside the store ([Secrets]),
// so a copy of the store lets nobody in. records.go draws the layout.
//
// # Who asks
//
// Each sign-in is in a [Lane] from its beginning: a known requester, a stranger,
// or a device that asks to be trusted. What may be open (room.go), what may
// ring (ringing.go) and how many wrong codes are borne (failures.go) is counted
// for each lane, so that strangers close nothing of the owner's own way in. What
// must not ring is opened in silence. Denials and revocations are never counted.
//
// # Who is woken, and what is known of it
//
// A device that has no open stream is woken by a [Waker], if it has registered
// with one: what rings names its sign-in to [Broker.KeepWaking], and nothing waits
// for what follows (waking.go, wakeup.go). How far each prompt came on each device
// is telemetry. It decides nothing, is kept in memory first, and is the one thing
// here that is seen before it is durable (delivery.go).
//
// # What is deliberately not here
//
// The time in a statement is put on record and decides nothing: a device with
// a wrong clock must be able to deny. A statement is fresh because its prompt
// holds a nonce made for one sign-in and one device, and because its counter
// must rise. Expiry is a function of the server's clock, and no job has to run
// for it.
package approval
