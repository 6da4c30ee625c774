package main

import (
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
)

// A panel is a desktop's panel with a tray, without a picture of it: it knows the icons
// that are there, and presses what is in their menus.
type panel struct {
	r     *room
	conn  *dbus.Conn
	items chan dbus.Sender // who has an icon
	owner string
}

const watcher = "org.kde.StatusNotifierWatcher"

func (r *room) panel() *panel {
	r.t.Helper()
	address := ""
	for _, e := range r.env {
		if a, ok := strings.CutPrefix(e, "DBUS_SESSION_BUS_ADDRESS="); ok {
			address = a
		}
	}
	conn, err := dbus.Connect(address)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	p := &panel{r: r, conn: conn, items: make(chan dbus.Sender, 10)}
	register := func(from dbus.Sender, _ string) *dbus.Error {
		p.items <- from
		return nil
	}
	if err := conn.ExportMethodTable(map[string]any{"RegisterStatusNotifierItem": register}, "/StatusNotifierWatcher", watcher); err != nil {
		r.t.Fatal(err)
	}
	if _, err := conn.RequestName(watcher, dbus.NameFlagDoNotQueue); err != nil {
		r.t.Fatal(err)
	}
	return p
}

// A layout is a part of a menu, as com.canonical.dbusmenu has it.
type layout struct {
	ID         int32
	Properties map[string]dbus.Variant
	Children   []dbus.Variant
}

// menu returns what is in the icon's menu, by what it says.
func (p *panel) menu() map[string]int32 {
	p.r.t.Helper()
	if p.owner == "" {
		p.owner = string(<-p.items)
	}
	path, err := p.conn.Object(p.owner, "/StatusNotifierItem").GetProperty("org.kde.StatusNotifierItem.Menu")
	if err != nil {
		p.r.t.Fatal(err)
	}
	var revision uint32
	var root layout
	call := p.conn.Object(p.owner, path.Value().(dbus.ObjectPath)).Call("com.canonical.dbusmenu.GetLayout", 0, int32(0), int32(-1), []string{})
	if err := call.Store(&revision, &root); err != nil {
		p.r.t.Fatal(err)
	}
	items := make(map[string]int32)
	for _, child := range root.Children {
		var item layout
		if err := dbus.Store([]any{child.Value()}, &item); err != nil {
			p.r.t.Fatal(err)
		}
		if label, ok := item.Properties["label"].Value().(string); ok && label != "" {
			items[label] = item.ID
		}
	}
	return items
}

// await waits until something in the menu begins so.
func (p *panel) await(label string) (id int32) {
	p.r.t.Helper()
	p.r.until(label+" in the tray's menu", func() bool {
		for have, at := range p.menu() {
			if strings.HasPrefix(have, label) {
				id = at
				return true
			}
		}
		return false
	})
	return id
}

func (p *panel) press(label string) {
	p.r.t.Helper()
	path, err := p.conn.Object(p.owner, "/StatusNotifierItem").GetProperty("org.kde.StatusNotifierItem.Menu")
	if err != nil {
		p.r.t.Fatal(err)
	}
	id := p.await(label)
	call := p.conn.Object(p.owner, path.Value().(dbus.ObjectPath)).Call("com.canonical.dbusmenu.Event", 0, id, "clicked", dbus.MakeVariant(""), uint32(0))
	if call.Err != nil {
		p.r.t.Fatal(call.Err)
	}
}

const testTitle = "This is a test prompt"

// TestTray finds the icon where panels look for it. Its menu says how it stands and why,
// gets a code, and sends a test prompt (S10), which comes up, is put away and is over.
func TestTray(t *testing.T) {
	r := newRoom(t)
	r.bus()
	p := r.panel()
	r.run("countersign-agent", "enroll", r.invite(), "--name", "Ada's desktop", "--kind", "desktop")
	r.start("countersign-desktop", "--hidden")
	p.menu()
	p.await("Connected")
	p.press("Send Me a Test Prompt")
	id := r.await(testTitle)
	settle()
	r.click(id, spot{240, 278})
	r.until("the test prompt to go", func() bool { return r.find(testTitle) == "" })
	r.server.await(`method=TestDevice `) // the call is over
	p.press("Get Verification Code")
	r.await(codeTitle)
	r.server.end()
	p.await("Not connected")
	p.await("127.0.0.1:") // and why
}
