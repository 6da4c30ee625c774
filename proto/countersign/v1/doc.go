// Package countersignv1 is the API of Countersign, version 1: four services,
// one for each kind of caller.
//
//   - [EnrollmentServiceServer]: whoever holds an invitation
//   - [DeviceServiceServer]: a trusted device, known by its TLS key
//   - [SignInServiceServer]: an application, known by its token
//   - [AdminServiceServer]: an administrator, on the server's Unix socket
//
// The .proto files beside this one are the reference and what is promised not
// to break; the Go code is generated from them. What is signed, and over which
// bytes, is no protobuf and is defined in docs/protocol.md.
package countersignv1
