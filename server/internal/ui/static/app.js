// Keeps a page live: the server says that something changed, the page asks for itself
// again and takes over what differs. Everything works without this file, but for that.
"use strict";
(() => {
  const $ = (q, e = document) => e.querySelector(q);
  const root = document.documentElement, peek = $("#peek"), keys = $("#shortcuts");
  root.classList.add("scripted");

  const nav = $(".rail nav"), here = $("[aria-current]", nav); // on a phone the row of pages is longer than the screen
  const centre = () => here && (nav.scrollLeft += here.getBoundingClientRect().left - (innerWidth - here.offsetWidth) / 2);
  centre();
  addEventListener("resize", centre);

  // --- taking over what differs ---
  const same = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && (a.id || "") === (b.id || "");
  function morph(a, b) { // makes a like b; focus, selection and scrolling stay where they are
    if (a.nodeType !== 1) {
      if (a.nodeValue !== b.nodeValue) a.nodeValue = b.nodeValue;
      return;
    }
    if (a.isEqualNode(b) || a.hasAttribute("data-keep")) return; // a form that is being filled in
    const edited = a.matches("input, textarea, select");
    for (const { name } of [...a.attributes]) if (!b.hasAttribute(name) && !(a.nodeName === "DETAILS" && name === "open")) a.removeAttribute(name);
    for (const { name, value } of b.attributes) {
      if (a.getAttribute(name) === value) continue;
      if (name === "data-state" && a.hasAttribute(name)) flash(a);
      a.setAttribute(name, value);
    }
    if (edited) return; // what the viewer typed is the viewer's
    const by = new Map();
    for (const c of a.children) if (c.id) by.set(c.id, c);
    let at = a.firstChild;
    for (const want of [...b.childNodes]) {
      let have = want.id ? by.get(want.id) : ahead(at, want);
      if (have && !same(have, want)) have = null;
      if (have && !want.id) while (at !== have) {
        const gone = at;
        at = at.nextSibling;
        gone.remove();
      }
      if (have && have !== at) a.insertBefore(have, at);
      if (have) {
        if (have === at) at = at.nextSibling;
        morph(have, want);
      } else {
        const fresh = document.importNode(want, true);
        a.insertBefore(fresh, at);
        if (fresh.id) flash(fresh);
      }
    }
    while (at) {
      const next = at.nextSibling;
      at.remove();
      at = next;
    }
  }
  function ahead(at, want) { // the next like want: what comes and goes before a form leaves the form in place
    for (let c = at; c; c = want.nodeType === 1 ? c.nextSibling : null) {
      if (same(c, want)) return c;
      if (c.id || (c.nodeType === 1 && (c.matches("[data-keep]") || $("[data-keep]", c)))) return null;
    }
    return null;
  }
  function flash(e) {
    e.classList.add("changed");
    e.addEventListener("animationend", () => e.classList.remove("changed"), { once: true });
  }

  async function load(url) {
    const r = await fetch(url, { credentials: "same-origin" });
    return new DOMParser().parseFromString(await r.text(), "text/html");
  }
  let busy = false, again = false;
  async function refresh() {
    if (busy) { again = true; return; }
    busy = true;
    try {
      const doc = await load(location.href), main = $("main", doc);
      if (main) {
        document.title = doc.title;
        local(main);
        morph($("main"), main);
        const was = document.body.dataset.live;
        document.body.dataset.live = doc.body.dataset.live;
        if (topics(was) !== topics(doc.body.dataset.live)) listen();
      }
      if (peek.open) await fill(peek.dataset.href);
      lost(false);
    } catch { lost(true); }
    setTimeout(() => { busy = false; if (again) { again = false; refresh(); } }, 120);
  }

  // --- hearing of changes ---
  const seen = /[?&]seen=\d+/; // what the page was made of, where the server tells it
  const topics = (live) => live.replace(seen, "");
  let source = null;
  function listen() {
    if (source) source.close();
    source = null;
    if (document.hidden || !document.body.dataset.live) return;
    source = new EventSource(document.body.dataset.live);
    source.addEventListener("hello", (e) => {
      if (!$("script[src]").src.endsWith(e.data)) location.reload(); // another version serves now
      else if (seen.test(document.body.dataset.live)) lost(false);
      else refresh();
    });
    source.onmessage = refresh;
    source.onerror = () => lost(true);
  }
  function lost(yes) {
    $("#status").textContent = yes ? "The connection to the agent is lost; trying again." : "";
    root.classList.toggle("lost", yes);
  }
  document.addEventListener("visibilitychange", listen); // hidden pages hold no connection
  addEventListener("pagehide", () => source && source.close());

  // --- the viewer's clock ---
  function local(e) {
    for (const t of e.querySelectorAll("time[datetime]")) {
      const d = new Date(t.getAttribute("datetime"));
      if (!isNaN(d)) t.textContent = d.toLocaleTimeString([], { hour12: false });
    }
  }

  // --- a look at one thing, beside the page ---
  async function fill(href) {
    const part = $("main", await load(href));
    const box = document.createElement("dialog");
    box.append(...part.childNodes);
    for (const { name, value } of peek.attributes) box.setAttribute(name, value);
    local(box);
    morph(peek, box);
  }
  async function look(href) {
    peek.dataset.href = href;
    await fill(href);
    if (!peek.open) peek.showModal();
    peek.scrollTop = 0;
  }
  peek.addEventListener("click", (e) => { if (e.target === peek) peek.close(); });

  document.addEventListener("click", (e) => {
    const a = e.target.closest("a[data-peek]"), copy = e.target.closest("[data-copy]");
    if (a && !e.ctrlKey && !e.metaKey && !e.shiftKey && e.button === 0) {
      e.preventDefault();
      look(a.href).catch(() => { location.href = a.href; });
    } else if (copy) {
      navigator.clipboard?.writeText(copy.dataset.copy).then(() => {
        copy.textContent = "Copied";
        setTimeout(() => { copy.textContent = "Copy"; }, 1500);
      });
    }
  });

  // --- light and dark ---
  function theme() {
    const next = { auto: "dark", dark: "light", light: "auto" }[root.dataset.theme] || "auto";
    root.dataset.theme = next;
    document.cookie = "rollcall_theme=" + next + "; path=" + $(".brand").getAttribute("href") + "; max-age=31536000; samesite=lax";
    $("#status").textContent = "Theme: " + next;
  }
  $("#theme").addEventListener("click", theme);
  $("#help").addEventListener("click", () => keys.showModal());

  // --- the keyboard ---
  function move(by) {
    const rows = [...(peek.open ? peek : document).querySelectorAll("[data-row]")];
    if (!rows.length) return;
    const at = rows.indexOf(document.activeElement);
    rows[Math.max(0, Math.min(rows.length - 1, at < 0 ? 0 : at + by))].focus();
  }
  document.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const typing = e.target.matches("input, textarea, select");
    if (e.key === "Escape" && typing) e.target.blur();
    if (e.key === "ArrowDown" && e.target.matches("[data-search]")) { e.preventDefault(); move(1); }
    if (typing) return;
    const links = document.querySelectorAll("[data-nav]");
    switch (e.key) {
      case "/": $("[data-search]") ? $("[data-search]").focus() : location.assign(links[1].href); break;
      case "?": keys.showModal(); break;
      case "t": theme(); break;
      case "j": case "ArrowDown": if (!keys.open && (e.key === "j" || document.activeElement.matches("[data-row]"))) { move(1); break; } return;
      case "k": case "ArrowUp": if (!keys.open && (e.key === "k" || document.activeElement.matches("[data-row]"))) { move(-1); break; } return;
      case "Escape": if (document.activeElement !== document.body) document.activeElement.blur(); return;
      default:
        if (e.key >= "1" && e.key <= "9" && links[e.key - 1]) { location.assign(links[e.key - 1].href); break; }
        return;
    }
    e.preventDefault();
  });

  local(document);
  listen();
})();
