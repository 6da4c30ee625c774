package server

import (
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// descriptors are the files whose services this server serves.
func descriptors() []protoreflect.FileDescriptor {
	return []protoreflect.FileDescriptor{
		pb.File_countersign_v1_admin_proto,
		pb.File_countersign_v1_device_proto,
		pb.File_countersign_v1_enrollment_proto,
		pb.File_countersign_v1_sign_in_proto,
		grpc_health_v1.File_grpc_health_v1_health_proto,
	}
}

func TestEveryMethodHasARow(t *testing.T) {
	left := map[string]bool{}
	for name := range methods {
		left[name] = true
	}
	for _, file := range descriptors() {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				name := "/" + string(service.FullName()) + "/" + string(service.Methods().Get(j).Name())
				if methods[name].caller == nobody {
					t.Errorf("%s has no row in the table of methods", name)
				}
				delete(left, name)
			}
		}
	}
	for name := range left {
		t.Errorf("%s has a row, but there is no such method", name)
	}
}

// Each service is for one kind of caller.
func TestRowsFollowTheServices(t *testing.T) {
	want := map[string]callerKind{
		"countersign.v1.EnrollmentService": certificate,
		"countersign.v1.DeviceService":     device,
		"countersign.v1.SignInService":     application,
		"countersign.v1.AdminService":      administrator,
		"grpc.health.v1.Health":            anyone,
	}
	for name, m := range methods {
		service, _, _ := strings.Cut(name[1:], "/")
		if m.caller != want[service] {
			t.Errorf("%s is for %v, want %v", name, m.caller, want[service])
		}
	}
}

func TestAServerWithAnUnknownMethodIsRefused(t *testing.T) {
	g := grpc.NewServer()
	g.RegisterService(&grpc.ServiceDesc{
		ServiceName: "countersign.v1.DeviceService",
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "OpenSesame"}},
	}, nil)
	if err := checkMethods(g); err == nil || !strings.Contains(err.Error(), "/countersign.v1.DeviceService/OpenSesame") {
		t.Errorf("checkMethods = %v, want the name of the method", err)
	}
}

func TestBearer(t *testing.T) {
	for _, test := range []struct {
		values []string
		want   string
		ok     bool
	}{
		{[]string{"Bearer abc"}, "abc", true},
		{[]string{"bEARER abc"}, "abc", true},
		{nil, "", false},
		{[]string{""}, "", false},
		{[]string{"Bearer"}, "", false},
		{[]string{"Bearer "}, "", false},
		{[]string{"Bearer  abc"}, "", false},
		{[]string{"Bearer abc "}, "", false},
		{[]string{" Bearer abc"}, "", false},
		{[]string{"Bearer abc,Bearer def"}, "", false},
		{[]string{"Bearer abc, Bearer def"}, "", false},
		{[]string{"Bearer\tabc"}, "", false},
		{[]string{"Bearer äbc"}, "", false},
		{[]string{"Basic abc"}, "", false},
		{[]string{"abc"}, "", false},
		{[]string{"Bearer abc", "Bearer abc"}, "", false},
		{[]string{"Bearer " + strings.Repeat("a", maxToken)}, strings.Repeat("a", maxToken), true},
		{[]string{"Bearer " + strings.Repeat("a", maxToken+1)}, "", false},
	} {
		if got, ok := bearer(test.values); got != test.want || ok != test.ok {
			t.Errorf("bearer(%q) = %q, %v, want %q, %v", test.values, got, ok, test.want, test.ok)
		}
	}
}

// FuzzBearer holds that what is taken for a token is one word of visible ASCII
// behind the scheme, and all of the value.
func FuzzBearer(f *testing.F) {
	for _, seed := range []string{"Bearer abc", "bearer a", "Bearer ", "Bearer a,b", "Basic a", "Bearer \x00", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		token, ok := bearer([]string{value})
		if !ok {
			if token != "" {
				t.Errorf("bearer(%q) = %q, false", value, token)
			}
			return
		}
		if token == "" || len(token) > maxToken || strings.ToLower(value[:7]) != "bearer " || value[7:] != token ||
			strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' || r == ',' }) {
			t.Errorf("bearer(%q) = %q", value, token)
		}
	})
}
