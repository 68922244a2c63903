"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const card = document.getElementById("card"), live = document.getElementById("live");
  const lists = new Map(), current = new Map();
  let shown = null, timer = 0;

  const cellsOf = (box) => {
    if (!lists.has(box)) lists.set(box, [...box.querySelectorAll(".t")]);
    return lists.get(box);
  };
  const percent = (p) => (100 * p).toFixed(1) + " %";
  const signed = (v) => (v < 0 ? "\u2212" : "+") + Math.abs(v).toFixed(3);
  const add = (parent, kind, text, style) => {
    const node = parent.appendChild(document.createElement(kind));
    if (text !== undefined) node.textContent = text;
    if (style) node.className = style;
    return node;
  };

  const addBar = (parent, name, p, style) => {
    const row = add(parent, "div", undefined, "row" + (style ? " " + style : ""));
    add(row, "bdi", name);
    add(add(row, "i"), "b").style.width = 100 * p + "%";
    add(row, "span", percent(p), "number");
  };

  // One token's details, for the eye into `parent`; returns the same as a sentence for the ear.
  const addJudgement = (parent, [piece, replaced, own, best]) => {
    const said = [];
    if (replaced !== null) {
      addBar(parent, "replaced", replaced, "replaced");
      said.push("replaced " + percent(replaced));
    }
    if (best) {
      add(parent, "p", "The generator, with this place masked:");
      for (const [name, p] of best) addBar(parent, name, p, name === piece ? "own" : "");
      add(parent, "p", "The text's own token: " + percent(own[0]) + ", number " + own[1] + " of its list.");
      said.push("candidates: " + best.map(([name, p]) => name.replace("\u2423", "") + " " + percent(p)).join(", "));
    } else if (best === false) add(parent, "p", "The generator was not asked about this token.");
    return said.join("; ");
  };
  const addAttribution = (parent, [, value]) => {
    const said = signed(value) + (value < 0 ? ", speaks against the answer" : ", speaks for the answer");
    add(parent, "p", said);
    return said;
  };

  const place = (token) => {
    const at = token.getClientRects()[0] || token.getBoundingClientRect(), room = document.documentElement;
    const left = Math.max(8, Math.min(at.left, room.clientWidth - card.offsetWidth - 8));
    const below = at.bottom + 8 + card.offsetHeight <= window.innerHeight || at.top < card.offsetHeight + 8;
    card.style.left = left + window.scrollX + "px";
    card.style.top = (below ? at.bottom + 6 : at.top - card.offsetHeight - 6) + window.scrollY + "px";
  };
  const hide = () => {
    clearTimeout(timer);
    if (shown) shown.removeAttribute("aria-selected");
    shown = null;
    card.hidden = true;
  };
  const show = (token, speak) => {
    clearTimeout(timer);
    const box = token.closest(".tokens");
    const details = data[box.dataset.block][cellsOf(box).indexOf(token)];
    if (shown !== token) {
      hide();
      card.replaceChildren();
      shown = token;
      token.setAttribute("aria-selected", "true");
      const said = details.map((one) => {
        add(card, "h4", one[0]);
        return (one.length === 2 ? addAttribution : addJudgement)(card, one);
      });
      card.dataset.said = said.join(". ");
      card.hidden = false;
      place(token);
    }
    if (speak) live.textContent = card.dataset.said;
  };
  const leave = () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      const focused = document.activeElement;
      if (focused && focused.matches(".t:focus-visible")) show(focused, false);
      else hide();
    }, 150);
  };

  const go = (box, token) => {
    (current.get(box) || cellsOf(box)[0]).tabIndex = -1;
    current.set(box, token);
    token.tabIndex = 0;
    token.focus();
  };
  // The token of the next (step 1) or last (step -1) line that is nearest to the same place.
  const otherLine = (cells, index, step) => {
    const from = cells[index].getBoundingClientRect();
    let line = null, best = null, distance = Infinity;
    for (let i = index + step; i >= 0 && i < cells.length; i += step) {
      const at = cells[i].getBoundingClientRect();
      if (Math.abs(at.top - from.top) < at.height / 2) continue;
      if (line === null) line = at.top;
      if (Math.abs(at.top - line) > at.height / 2) break;
      const away = Math.abs(at.left - from.left);
      if (away < distance) [best, distance] = [cells[i], away];
    }
    return best || cells[index];
  };

  document.addEventListener("pointerover", (event) => {
    const token = event.target.closest(".t");
    if (token) show(token, false);
    else if (card.contains(event.target)) clearTimeout(timer);
  });
  document.addEventListener("pointerout", (event) => {
    if (event.target.closest(".t, #card")) leave();
  });
  document.addEventListener("click", (event) => {
    const token = event.target.closest(".t");
    if (token) go(token.closest(".tokens"), token);
  });
  document.addEventListener("focusin", (event) => {
    if (event.target.matches(".t")) show(event.target, true);
    else hide();
  });
  document.addEventListener("focusout", leave);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      hide();
      live.textContent = "";
      return;
    }
    const token = event.target.closest(".t");
    if (!token || event.ctrlKey || event.altKey || event.metaKey) return;
    const box = token.closest(".tokens"), cells = cellsOf(box), index = cells.indexOf(token);
    const forward = getComputedStyle(box).direction === "rtl" ? "ArrowLeft" : "ArrowRight";
    const moves = {
      ArrowUp: () => otherLine(cells, index, -1),
      ArrowDown: () => otherLine(cells, index, 1),
      Home: () => cells[0],
      End: () => cells[cells.length - 1],
      Enter: () => token,
      " ": () => token,
    };
    moves.ArrowRight = () => cells[index + (forward === "ArrowRight" ? 1 : -1)] || token;
    moves.ArrowLeft = () => cells[index + (forward === "ArrowLeft" ? 1 : -1)] || token;
    if (!Object.hasOwn(moves, event.key)) return;
    event.preventDefault();
    const next = moves[event.key]();
    go(box, next);
    show(next, true);
  });
})();
