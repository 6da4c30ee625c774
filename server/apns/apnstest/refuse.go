package apnstest

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

const (
	maxPayload    = 4096
	maxCollapseID = 64
)

var (
	canonicalUUID = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	hexadecimal   = regexp.MustCompile(`^([0-9a-fA-F]{2})+$`)
	topicForm     = regexp.MustCompile(`^[A-Za-z0-9.-]+$`)
	decimal       = regexp.MustCompile(`^[0-9]+$`)
)

// pushTypes are those that the programs of the team can have. Apple has more, each
// with a topic of its own, and the team has none of these.
var pushTypes = map[string]bool{"alert": true, "background": true}

func refused(status int, reason string) Answer { return Answer{Status: status, Reason: reason} }

// refuse looks at a push as Apple does and returns status 200, or what is wrong with
// it. In which order Apple looks is not documented.
func (s *Server) refuse(conn *connection, p *Push) Answer {
	if p.Method != http.MethodPost {
		return refused(http.StatusMethodNotAllowed, "MethodNotAllowed")
	}
	token, ok := strings.CutPrefix(p.Path, "/3/device/")
	switch {
	case ok && token == "", p.Path == "/3/device":
		return refused(http.StatusBadRequest, "MissingDeviceToken")
	case !ok, strings.ContainsAny(token, "/?"):
		return refused(http.StatusNotFound, "BadPath")
	}
	for _, values := range p.Header {
		if len(values) > 1 {
			return refused(http.StatusBadRequest, "DuplicateHeaders")
		}
	}
	if a := s.refuseProvider(conn, p); a.Status != http.StatusOK {
		return a
	}
	if reason := badHeader(p.Header); reason != "" {
		return refused(http.StatusBadRequest, reason)
	}
	if len(p.Payload) > maxPayload {
		return refused(http.StatusRequestEntityTooLarge, "PayloadTooLarge")
	}
	if reason := badPayload(p.Header, p.Payload); reason != "" {
		return refused(http.StatusBadRequest, reason)
	}
	return s.refuseDevice(token, p.Header.Get("apns-topic"))
}

func (s *Server) refuseDevice(token, topic string) Answer {
	d := s.devices[strings.ToLower(token)]
	switch {
	case !hexadecimal.MatchString(token), d == nil:
		return refused(http.StatusBadRequest, "BadDeviceToken")
	case d.topic != topic:
		return refused(http.StatusBadRequest, "DeviceTokenNotForTopic")
	case d.reason != "":
		return Answer{Status: http.StatusGone, Reason: d.reason, Timestamp: d.since}
	}
	return Answer{Status: http.StatusOK}
}

func badHeader(h http.Header) string {
	topic, id := h.Get("apns-topic"), h.Get("apns-id")
	switch {
	case topic == "":
		return "MissingTopic"
	case !topicForm.MatchString(topic):
		return "BadTopic"
	case topic != Topic && topic != Other:
		return "TopicDisallowed"
	case h["Apns-Id"] != nil && !canonicalUUID.MatchString(id):
		return "BadMessageId"
	case len(h.Get("apns-collapse-id")) > maxCollapseID:
		return "BadCollapseId"
	case !pushTypes[h.Get("apns-push-type")]:
		// Apple takes a push without a type for some kinds of devices, and those of
		// this server are of the other kinds.
		return "InvalidPushType"
	}
	if value, given := h["Apns-Expiration"]; given && !decimal.MatchString(value[0]) {
		return "BadExpirationDate"
	} else if given {
		if _, err := strconv.ParseInt(value[0], 10, 64); err != nil {
			return "BadExpirationDate"
		}
	}
	if priority(h) == 0 {
		return "BadPriority"
	}
	return ""
}

// priority returns 0 for one that does not exist.
func priority(h http.Header) int {
	if h["Apns-Priority"] == nil {
		return 10
	}
	switch value := h.Get("apns-priority"); value {
	case "1", "5", "10":
		n, _ := strconv.Atoi(value)
		return n
	}
	return 0
}

// badPayload compares a payload with what its headers promise. What Apple answers to
// a payload that is no JSON, or has no dictionary aps, is not documented; here it is
// as good as none.
func badPayload(h http.Header, payload []byte) string {
	var all struct {
		APS map[string]json.RawMessage `json:"aps"`
	}
	if json.Unmarshal(payload, &all) != nil || len(all.APS) == 0 {
		return "PayloadEmpty"
	}
	has := func(key string) bool { return all.APS[key] != nil && string(all.APS[key]) != "null" }
	seen := has("alert") || has("badge") || has("sound")
	background := string(all.APS["content-available"]) == "1"
	switch h.Get("apns-push-type") {
	case "alert":
		if !seen {
			return "InvalidPushType"
		}
	case "background":
		if seen || !background {
			return "InvalidPushType"
		}
		// Apple: always use priority 5; using priority 10 is an error.
		if priority(h) != 5 {
			return "BadPriority"
		}
	}
	return ""
}
