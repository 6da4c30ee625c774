package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/countersignd/countersign/internal/invitation"
	"github.com/countersignd/countersign/internal/pin"
	"github.com/countersignd/countersign/server"
)

// settings are what serve can be told, in its flags or in a TOML file with the
// same names. A setting that is zero was not given.
type settings struct {
	DataDir           string         `toml:"data_dir" kong:"-"`
	Listen            string         `toml:"listen" placeholder:"HOST:PORT" help:"Where devices and applications connect. Default: 127.0.0.1:8443; port 0 takes a free one."`
	PublicAddress     string         `toml:"public_address" placeholder:"HOST:PORT" help:"What devices and applications are told to connect to. Default: the address listened on, with this machine's name if that is all addresses."`
	ObserveListen     string         `toml:"observe_listen" placeholder:"HOST:PORT" help:"Where to serve /metrics, /livez and /readyz, in plain HTTP and to everybody: a loopback address or one of a private network, such as 127.0.0.1:9464. Default: nowhere."`
	TLSCertificate    string         `toml:"tls_certificate" name:"tls-certificate" placeholder:"FILE" type:"path" help:"A certificate of your own (PEM, with its chain), for a P-256 key. Default: one that the server signs itself, which devices know by its key."`
	TLSKey            string         `toml:"tls_key" name:"tls-key" placeholder:"FILE" type:"path" help:"The key of --tls-certificate (PEM)."`
	TLSRoots          string         `toml:"tls_roots" name:"tls-roots" placeholder:"pin|system" help:"How new devices check the server: by its key's id, which must then never change, or with their system's certificate roots, which needs --tls-certificate. Default: pin."`
	NewTLSKey         bool           `toml:"-" name:"accept-new-tls-key" help:"Start although the TLS key is another than before: every device that knows the old one must be enrolled again."`
	DevicesPerAccount int            `toml:"devices_per_account" placeholder:"N" help:"How many trusted devices an account may have, 1 to 100. Default: 20."`
	MinFree           int            `toml:"min_free" name:"min-free" placeholder:"MIB" help:"How many MiB must be free on the disk for anything new to be begun; denying and revoking go on with less. Default: 64."`
	AcceptClock       bool           `toml:"-" name:"accept-clock" help:"Start with the machine's clock as it is, although the database knows of a later time: for when the clock was once wrong and far ahead. What is open is called off, and invitations are void."`
	RecoveryWait      time.Duration  `toml:"recovery_wait" placeholder:"DURATION" help:"How long a device that was enrolled with a recovery code waits, seen and revocable by all others of the account, before it is trusted: such as 24h, 168h at most. Default: 0, it does not wait."`
	LogFormat         string         `toml:"log_format" kong:"-"`
	LogLevel          string         `toml:"log_level" placeholder:"LEVEL" help:"debug, info, warn or error. Default: info."`
	Limits            limitsSettings `toml:"limits" embed:"" prefix:"limit-"`
	APNs              apnsSettings   `toml:"apns" embed:"" prefix:"apns-"`

	WebPush       webPushSettings `toml:"web_push" embed:"" prefix:"web-push-"`
	NewWebPushKey bool            `toml:"-" name:"accept-new-web-push-key" help:"Start although the Web Push key is another than before: no device can be woken through Web Push until it has subscribed anew."`
}

// limitsSettings are those of [server.Limits] that an administrator may need.
type limitsSettings struct {
	AcceptRate             int `toml:"accept_rate" placeholder:"N" help:"Connections accepted in a second. Default: 1000."`
	SourceRate             int `toml:"source_rate" placeholder:"N" help:"The same for one IPv4 address or IPv6 /64. Default: 500."`
	Strangers              int `toml:"strangers" placeholder:"N" help:"Connections of callers that have shown neither a trusted device's key nor a good token. Default: 1024."`
	StrangersPerSource     int `toml:"strangers_per_source" placeholder:"N" help:"The same for one IPv4 address or IPv6 /64. Default: 256."`
	StrangerCallRate       int `toml:"stranger_call_rate" placeholder:"N" help:"Calls of such callers in a second, from one source. Default: 50."`
	DeviceConnections      int `toml:"device_connections" placeholder:"N" help:"Connections of one trusted device. Default: 4."`
	ApplicationConnections int `toml:"application_connections" placeholder:"N" help:"Connections of all applications together. Default: 1024."`
}

// readSettings reads a configuration file. A setting that this program does
// not know is refused: it would be a limit that does not limit.
func readSettings(file string) (settings, error) {
	var s settings
	md, err := toml.DecodeFile(file, &s)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s, usageError{fmt.Errorf("there is no configuration file %s", file)}
	case err != nil:
		return s, usageError{fmt.Errorf("reading %s: %w", file, err)}
	}
	if unknown := md.Undecoded(); len(unknown) > 0 {
		return s, usageError{fmt.Errorf("%s has a setting that this program does not know: %s", file, unknown[0])}
	}
	return s, nil
}

// over returns the settings of s, and those of base where s has none.
func (s settings) over(base settings) settings {
	return settings{
		DataDir:           cmp.Or(s.DataDir, base.DataDir),
		Listen:            cmp.Or(s.Listen, base.Listen),
		PublicAddress:     cmp.Or(s.PublicAddress, base.PublicAddress),
		ObserveListen:     cmp.Or(s.ObserveListen, base.ObserveListen),
		TLSCertificate:    cmp.Or(s.TLSCertificate, base.TLSCertificate),
		TLSKey:            cmp.Or(s.TLSKey, base.TLSKey),
		TLSRoots:          cmp.Or(s.TLSRoots, base.TLSRoots),
		NewTLSKey:         cmp.Or(s.NewTLSKey, base.NewTLSKey),
		DevicesPerAccount: cmp.Or(s.DevicesPerAccount, base.DevicesPerAccount),
		MinFree:           cmp.Or(s.MinFree, base.MinFree),
		AcceptClock:       cmp.Or(s.AcceptClock, base.AcceptClock),
		RecoveryWait:      cmp.Or(s.RecoveryWait, base.RecoveryWait),
		WebPush:           s.WebPush.over(base.WebPush),
		NewWebPushKey:     cmp.Or(s.NewWebPushKey, base.NewWebPushKey),
		LogFormat:         cmp.Or(s.LogFormat, base.LogFormat),
		LogLevel:          cmp.Or(s.LogLevel, base.LogLevel),
		Limits: limitsSettings{
			AcceptRate:             cmp.Or(s.Limits.AcceptRate, base.Limits.AcceptRate),
			SourceRate:             cmp.Or(s.Limits.SourceRate, base.Limits.SourceRate),
			Strangers:              cmp.Or(s.Limits.Strangers, base.Limits.Strangers),
			StrangersPerSource:     cmp.Or(s.Limits.StrangersPerSource, base.Limits.StrangersPerSource),
			StrangerCallRate:       cmp.Or(s.Limits.StrangerCallRate, base.Limits.StrangerCallRate),
			DeviceConnections:      cmp.Or(s.Limits.DeviceConnections, base.Limits.DeviceConnections),
			ApplicationConnections: cmp.Or(s.Limits.ApplicationConnections, base.Limits.ApplicationConnections),
		},
		APNs: s.APNs.over(base.APNs),
	}
}

// maxMinFree is an exbibyte, in MiB: enough for a server that should take
// nothing new for a while.
const maxMinFree = 1 << 40

// builtIn are the settings where nothing else is said.
func builtIn() settings {
	return settings{
		DataDir:           defaultDataDir(),
		Listen:            "127.0.0.1:8443",
		TLSRoots:          "pin",
		DevicesPerAccount: 20,
		MinFree:           64,
		LogFormat:         "text",
		LogLevel:          "info",
	}
}

// check refuses settings that make no sense, before anything is created.
func (s settings) check() error {
	var level slog.Level
	switch {
	case (s.TLSCertificate == "") != (s.TLSKey == ""):
		return errors.New("tls_certificate and tls_key go together: give both or neither")
	case s.TLSRoots != "pin" && s.TLSRoots != "system":
		return fmt.Errorf("tls_roots is %q, want pin or system", s.TLSRoots)
	case s.TLSRoots == "system" && s.TLSCertificate == "":
		return errors.New("tls_roots is system, so the server needs a certificate that devices' systems know: set tls_certificate and tls_key")
	case s.DevicesPerAccount < 1 || s.DevicesPerAccount > 100:
		return fmt.Errorf("devices_per_account is %d, want 1 to 100", s.DevicesPerAccount)
	case s.MinFree < 1 || s.MinFree > maxMinFree:
		return fmt.Errorf("min_free is %d, want 1 to %d (MiB)", s.MinFree, maxMinFree)
	case s.RecoveryWait < 0 || s.RecoveryWait > 7*24*time.Hour:
		return fmt.Errorf("recovery_wait is %v, want 0 to 168h (7 days)", s.RecoveryWait)
	case s.Limits.lowest() < 0:
		return errors.New("a limit is negative: leave it out for the built-in one")
	case s.LogFormat != "text" && s.LogFormat != "json":
		return fmt.Errorf("log_format is %q, want text or json", s.LogFormat)
	case level.UnmarshalText([]byte(s.LogLevel)) != nil:
		return fmt.Errorf("log_level is %q, want debug, info, warn or error", s.LogLevel)
	}
	if err := s.WebPush.check(); err != nil {
		return err
	}
	if _, _, err := net.SplitHostPort(s.Listen); err != nil {
		return fmt.Errorf("listen is %q, want host:port", s.Listen)
	}
	if host, _, err := net.SplitHostPort(s.ObserveListen); s.ObserveListen != "" && (err != nil || host == "") {
		return fmt.Errorf("observe_listen is %q, want host:port with the host, since anybody who reaches it is answered: 127.0.0.1:9464, or an address of a private network", s.ObserveListen)
	}
	if err := s.APNs.check(); err != nil {
		return err
	}
	if s.PublicAddress != "" {
		return checkPublicAddress(s.PublicAddress)
	}
	return nil
}

// checkPublicAddress refuses an address that no agent would take out of an
// invitation.
func checkPublicAddress(address string) error {
	sample := invitation.Link{
		Server:     address,
		Deployment: strings.Repeat("a", 26),
		Pin:        strings.Repeat("a", 52),
		Token:      invitation.NewToken(),
	}
	if _, err := invitation.Parse(sample.URL()); err != nil || !pin.ValidKeyID(sample.Pin) {
		return fmt.Errorf("public_address is %q, want a host name or IP address and a port, such as countersign.example:8443", address)
	}
	return nil
}

// publicAddress returns what to tell others about a listener at address.
func publicAddress(address net.Addr) (string, error) {
	host, port, err := net.SplitHostPort(address.String())
	if err != nil {
		return "", fmt.Errorf("reading the address listened on: %w", err)
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		if host, err = os.Hostname(); err != nil {
			return "", fmt.Errorf("finding this machine's name: %w; set public_address", err)
		}
	}
	public := net.JoinHostPort(host, port)
	return public, checkPublicAddress(public)
}

func (l limitsSettings) lowest() int {
	return min(l.AcceptRate, l.SourceRate, l.Strangers, l.StrangersPerSource, l.StrangerCallRate, l.DeviceConnections, l.ApplicationConnections)
}

func (l limitsSettings) limits() server.Limits {
	return server.Limits{
		AcceptRate:             l.AcceptRate,
		SourceRate:             l.SourceRate,
		Strangers:              l.Strangers,
		StrangersPerSource:     l.StrangersPerSource,
		StrangerCallRate:       l.StrangerCallRate,
		DeviceConnections:      l.DeviceConnections,
		ApplicationConnections: l.ApplicationConnections,
	}
}

// defaultDataDir returns where data lives if nobody says otherwise: in
// /var/lib for root, else where the user's programs keep theirs (XDG Base
// Directory Specification).
func defaultDataDir() string {
	if os.Geteuid() == 0 {
		return "/var/lib/countersign"
	}
	base := os.Getenv("XDG_DATA_HOME")
	if !filepath.IsAbs(base) {
		home, err := os.UserHomeDir()
		if err != nil {
			home = "."
		}
		base = filepath.Join(home, ".local", "share")
	}
	return filepath.Join(base, "countersign")
}
