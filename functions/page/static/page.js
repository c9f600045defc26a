// What htmx does not do by itself: the pulse (every 2 s, never while nobody looks), keys, ticks, and the dialog.
"use strict";
(() => {
  const body = document.body, dialog = document.getElementById("dialog"), away = document.getElementById("away");
  const by = (id) => document.getElementById(id);
  const lives = () => !document.hidden;

  // What a person has opened, ticked or chosen is theirs: a refresh does not take it back.
  Idiomorph.defaults.callbacks.beforeAttributeUpdated = (name, node) =>
    !((name === "open" && node.tagName === "DETAILS") || (name === "checked" && node.type === "checkbox") || node.id === "ticked" && name === "hidden");

  Idiomorph.defaults.callbacks.beforeNodeMorphed = (node) => node.id !== "played";

  const tick = (name) => lives() && htmx.trigger(body, name);
  setInterval(tick, 2000, "tick");
  setInterval(tick, 60000, "slow");
  document.addEventListener("visibilitychange", () => tick("tick"));

  // The server is away: say so, keep what is shown, and go on asking.
  const gone = (text) => { away.textContent = text; away.hidden = false; };
  body.addEventListener("htmx:sendError", () => gone("The server does not answer. What you see may be old; this page goes on asking."));
  body.addEventListener("htmx:timeout", () => gone("The server is slow to answer. What you see may be old; this page goes on asking."));
  body.addEventListener("htmx:responseError", (event) => {
    const text = event.detail.xhr.responseText.slice(0, 300);
    if (event.detail.target === dialog) say(text); else gone(text);
  });
  body.addEventListener("htmx:afterRequest", (event) => { if (event.detail.successful) away.hidden = true; });

  const say = (text) => {
    const form = document.createElement("form"), line = document.createElement("p"), row = document.createElement("p"), button = document.createElement("button");
    line.textContent = text; line.setAttribute("role", "alert");
    button.type = "button"; button.textContent = "Close"; button.dataset.close = ""; row.className = "buttons"; row.append(button);
    form.append(line, row); dialog.replaceChildren(form); if (!dialog.open) dialog.showModal();
  };

  // The dialog opens with what the server answers, and what it did is seen at once.
  body.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target === dialog) {
      if (!dialog.open) dialog.showModal();
      if (dialog.querySelector("[data-ended]")) { tick("tick"); by("close")?.focus(); }
    }
    count();
  });
  body.addEventListener("click", (event) => { if (event.target.closest("[data-close]")) dialog.close(); });
  dialog.addEventListener("close", () => { dialog.replaceChildren(); untick(); tick("tick"); });

  // A task that has ended has a result now.
  let state = by("task")?.dataset.state;
  body.addEventListener("htmx:afterSettle", () => {
    const now = by("task")?.dataset.state;
    if (now !== state) { state = now; htmx.trigger(body, "ended"); }
  });

  // The address keeps only what was chosen; an action for all takes no ticks along, one for the ticked takes no filter.
  body.addEventListener("htmx:configRequest", (event) => {
    const found = event.detail.parameters, button = event.detail.triggeringEvent?.submitter;
    if (button?.hasAttribute("data-all")) delete found.id;
    for (const name of Object.keys(found)) if (found[name] === "") delete found[name];
    if (button?.hasAttribute("data-ticked")) for (const name of ["state", "kind", "reason", "owner", "q"]) delete found[name];
  });

  // Ticks.
  const ticks = () => [...document.querySelectorAll("input[name=id][form=chosen]")];
  const untick = () => { for (const one of ticks()) one.checked = false; count(); };
  const count = () => {
    const bar = by("ticked"); if (!bar) return;
    const all = ticks(), on = all.filter((one) => one.checked).length;
    bar.hidden = !on; by("tick-count").textContent = on; by("all")?.toggleAttribute("hidden", !!on);
    by("tick-all").checked = on > 0 && on === all.length; by("tick-all").indeterminate = on > 0 && on < all.length;
  };
  body.addEventListener("change", (event) => {
    if (event.target.id === "tick-all") for (const one of ticks()) one.checked = event.target.checked;
    if (event.target.hasAttribute("data-submit")) event.target.form.submit();
    if (event.target.type === "checkbox") count();
  });

  // Keys: / to the filter, j and k through the rows, x ticks, Escape leaves a field.
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || dialog.open) return;
    const typing = event.target.matches("input:not([type=checkbox]), select, textarea");
    if (event.key === "Escape" && typing) return event.target.blur();
    if (typing) return;
    const rows = [...document.querySelectorAll(".tasks tbody tr[id], .sweeps tbody tr")].map((row) => row.querySelector("a")).filter(Boolean);
    const here = rows.findIndex((one) => one.closest("tr").contains(document.activeElement));
    if (event.key === "/" && by("q")) { event.preventDefault(); by("q").focus(); by("q").select(); }
    if (event.key === "j" || event.key === "k") rows[Math.min(rows.length - 1, Math.max(0, here + (event.key === "j" ? 1 : -1)))]?.focus();
    if (event.key === "x" && here >= 0) rows[here].closest("tr").querySelector("input[name=id]")?.click();
  });
})();
