// What htmx does not do by itself: the refresh (every 2 s, never while nobody looks), keys, ticks,
// and the dialog.
"use strict";
(() => {
  const body = document.body;
  const byId = (id) => document.getElementById(id);
  const dialog = byId("dialog");
  const away = byId("away");
  const FILTER_FIELDS = [
    "state", "kind", "reason", "owner", "q", "text", "since", "until", "message", "order", "sort",
  ];

  // What a person has opened, ticked or chosen is theirs: a refresh does not take it back.
  const isTheirs = (name, node) =>
    (name === "open" && node.tagName === "DETAILS") ||
    (name === "checked" && node.type === "checkbox") ||
    (name === "hidden" && node.id === "ticked");
  Idiomorph.defaults.callbacks.beforeAttributeUpdated = (name, node) => !isTheirs(name, node);
  Idiomorph.defaults.callbacks.beforeNodeMorphed = (node, next) =>
    node.id !== "played" && !isKept(node, next) && !isSameMoment(node, next);
  const isKept = (node, next) => node.classList?.contains("kept") && node.id === next?.id;
  const isSameMoment = (node, next) =>
    node.tagName === "TIME" && next?.tagName === "TIME" && node.dateTime === next.dateTime;

  // Moments in the zone of whoever looks; UTC on hover.
  const showTimes = () => {
    for (const time of document.querySelectorAll("time:not([title])")) {
      time.title = time.textContent;
      time.textContent = new Date(time.dateTime).toLocaleString("sv-SE"); // 2026-11-28 18:29:36
    }
  };
  showTimes();
  body.addEventListener("htmx:afterSettle", showTimes);

  // Copying, where the browser lets a page do it: buttons, which a refresh leaves alone.
  const toCopy = {
    "Copy id": ({ id }) => id,
    "Copy as JSON": async ({ json }) => (await fetch(json)).text(),
    "Copy as curl": ({ json }) => {
      const login = '-H "Authorization: Bearer $(gcloud auth print-identity-token)" ';
      const isLocal = ["localhost", "127.0.0.1"].includes(location.hostname);
      return `curl ${isLocal ? "" : login}'${new URL(json, location.href)}'`;
    },
  };
  const copyLine = document.querySelector(".copy");
  for (const [label, textOf] of Object.entries(copyLine && navigator.clipboard ? toCopy : {})) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "quiet";
    button.textContent = label;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(await textOf(copyLine.dataset));
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = label), 1500);
    });
    copyLine.append(button);
  }

  // On a phone the filter is behind a button, which counts what is chosen.
  const fold = byId("fold");
  const unfold = (open) => fold.setAttribute("aria-expanded", open);
  fold?.addEventListener("click", () => unfold(fold.getAttribute("aria-expanded") === "false"));

  const tick = (name) => !document.hidden && htmx.trigger(body, name);
  setInterval(tick, 2000, "tick");
  setInterval(tick, 60000, "slow");
  document.addEventListener("visibilitychange", () => tick("tick"));

  // A refresh asks for what the list shows: for a moment after a swap htmx still has the address of
  // the list before it, which would take the filter back.
  body.addEventListener("htmx:configRequest", ({ detail }) => {
    if (detail.elt.id === "list") detail.path = detail.elt.getAttribute("hx-get");
  });

  // The server is away: say so, keep what is shown, and go on asking.
  const OLD = "What you see may be old; this page goes on asking.";
  const sayAway = (text) => {
    away.textContent = text;
    away.hidden = false;
  };
  body.addEventListener("htmx:sendError", () => sayAway(`The server does not answer. ${OLD}`));
  body.addEventListener("htmx:timeout", () => sayAway(`The server is slow to answer. ${OLD}`));
  body.addEventListener("htmx:responseError", (event) => {
    const text = event.detail.xhr.responseText.slice(0, 300);
    if (event.detail.target === dialog) sayInDialog(text);
    else sayAway(text);
  });
  body.addEventListener("htmx:afterRequest", (event) => {
    if (!event.detail.successful) return;
    away.hidden = true;
    const opened = event.detail.elt.closest("#pause-kind");
    if (opened) opened.open = false;
  });

  // What went well is said in passing; the dialog stays only for what did not.
  const note = byId("toast");
  let noteTimer;
  const toast = (text) => {
    note.textContent = text.trim().replace(/\s+/g, " ");
    note.hidden = false;
    clearTimeout(noteTimer);
    noteTimer = setTimeout(() => (note.hidden = true), 6000);
  };

  const sayInDialog = (text) => {
    const line = document.createElement("p");
    line.textContent = text;
    line.setAttribute("role", "alert");
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Close";
    button.dataset.close = "";
    const buttons = document.createElement("p");
    buttons.className = "buttons";
    buttons.append(button);
    const form = document.createElement("form");
    form.append(line, buttons);
    dialog.replaceChildren(form);
    if (!dialog.open) dialog.showModal();
  };

  // The dialog opens with what the server answers, and what it did is seen at once.
  body.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target === dialog) {
      if (!dialog.open) dialog.showModal();
      const ended = dialog.querySelector("[data-ended]");
      if (ended) tick("tick");
      if (ended && dialog.querySelector(".warn")) byId("close")?.focus();
      else if (ended) {
        toast(ended.textContent);
        dialog.close();
      }
    }
    showTicks();
  });
  body.addEventListener("click", async (event) => {
    if (event.target.closest("[data-close]")) dialog.close();
    const time = event.target.closest("time");
    if (!time || !navigator.clipboard || getSelection().toString()) return;
    await navigator.clipboard.writeText(time.dateTime);
    toast(`Copied ${time.dateTime}`);
  });
  dialog.addEventListener("close", () => {
    dialog.replaceChildren();
    for (const box of boxes()) box.checked = false;
    showTicks();
    tick("tick");
  });

  // A task that has ended has a result now.
  let shownState = byId("task")?.dataset.state;
  body.addEventListener("htmx:afterSettle", () => {
    const state = byId("task")?.dataset.state;
    if (state === shownState) return;
    shownState = state;
    htmx.trigger(body, "ended");
  });

  // The address keeps only what was chosen. An action for all takes no ticks along, one for the
  // ticked takes no filter.
  body.addEventListener("htmx:configRequest", (event) => {
    const parameters = event.detail.parameters;
    const button = event.detail.triggeringEvent?.submitter;
    const dropped = Object.keys(parameters).filter((name) => parameters[name] === "");
    if (button?.hasAttribute("data-all")) dropped.push("id");
    if (button?.hasAttribute("data-ticked")) dropped.push(...FILTER_FIELDS);
    for (const name of dropped) delete parameters[name];
  });

  // Ticks.
  const boxes = () => [...document.querySelectorAll("input[name=id][form=chosen]")];
  const showTicks = () => {
    const bar = byId("ticked");
    if (!bar) return;
    const all = boxes();
    const count = all.filter((box) => box.checked).length;
    bar.hidden = count === 0;
    const can = all.filter((box) => box.checked).map((box) => box.dataset.can.split(" "));
    for (const button of bar.querySelectorAll("button"))
      button.hidden = !can.some((actions) => actions.includes(button.value));
    byId("tick-count").textContent = count;
    byId("all")?.toggleAttribute("hidden", count > 0);
    byId("tick-all").checked = count > 0 && count === all.length;
    byId("tick-all").indeterminate = count > 0 && count < all.length;
  };
  body.addEventListener("change", (event) => {
    const field = event.target;
    if (field.id === "tick-all") for (const box of boxes()) box.checked = field.checked;
    if (field.hasAttribute("data-submit")) field.form.submit();
    if (field.type === "checkbox") showTicks();
  });

  // Keys: / to the filter, j and k through the rows, x ticks, Escape leaves a field.
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || dialog.open) return;
    if (event.target.matches("input:not([type=checkbox]), select, textarea")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const rows = [...document.querySelectorAll(".tasks tbody tr[id], .sweeps tbody tr")];
    const links = rows.map((row) => row.querySelector("a")).filter(Boolean);
    const row = document.activeElement?.closest("tr");
    const place = links.findIndex((link) => link.closest("tr") === row);
    const filter = byId("q");
    if (event.key === "/" && filter) {
      event.preventDefault();
      unfold(true);
      filter.focus();
      filter.select();
    }
    if (event.key === "j") links[Math.min(links.length - 1, place + 1)]?.focus();
    if (event.key === "k") links[Math.max(0, place - 1)]?.focus();
    if (event.key === "x" && place >= 0) row.querySelector("input[name=id]")?.click();
  });
})();
