// A build's log while it comes: server-sent events of the API, their colours as buildkit/report/ansi.py draws them.
(function () {
  "use strict";

  var MOST = 20000, LONGEST = 4000; // lines that are kept, characters of one that are shown
  var OTHER = /\x1b(?:\[[0-9;:?<=>]*[ -\/]*[@-ln-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)|[()][0-9A-Za-z]|[=>78cDEHMNOZ])/g;
  var FLAGS = { 1: "b", 2: "d", 3: "i", 4: "u", 7: "v", 9: "s" };
  var OFF = { 22: "bd", 23: "i", 24: "u", 27: "v", 29: "s" };

  // Control characters are shown, not obeyed; the same ones as in buildkit/report/text.py.
  function printable(text) {
    return text.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, function (character) {
      var number = character.codePointAt(0), hex = number.toString(16);
      if (number < 0x100) return "\\x" + hex.padStart(2, "0");
      return number < 0x10000 ? "\\u" + hex.padStart(4, "0") : "\\U" + hex.padStart(8, "0");
    });
  }

  function expanded(text) {
    if (text.indexOf("\t") < 0) return text;
    var column = 0, made = "";
    Array.from(text).forEach(function (character) {
      if (character !== "\t") { made += character; column += 1; return; }
      var blanks = 8 - column % 8;
      made += " ".repeat(blanks);
      column += blanks;
    });
    return made;
  }

  function extended(ground, codes, colours) {
    var kind = codes.shift(), number;
    if (kind === 5 && codes.length) {
      number = codes.shift();
      delete colours[ground];
      if (number < 16) colours[ground] = number;
    } else if (kind === 2) {
      codes.splice(0, 3);
      delete colours[ground];
    }
  }

  function apply(text, flags, colours) {
    var codes = text.split(/[;:]/).map(function (code) { return parseInt(code.slice(0, 4) || "0", 10); });
    while (codes.length) {
      var code = codes.shift();
      if (code === 0) {
        flags.clear();
        delete colours.c;
        delete colours.k;
      } else if (FLAGS[code]) flags.add(FLAGS[code]);
      else if (OFF[code]) Array.from(OFF[code]).forEach(function (one) { flags.delete(one); });
      else if (code === 38 || code === 48) extended(code === 38 ? "c" : "k", codes, colours);
      else if (code === 39 || code === 49) delete colours[code === 39 ? "c" : "k"];
      else [[30, "c", 0], [40, "k", 0], [90, "c", 8], [100, "k", 8]].forEach(function (one) {
        if (one[0] <= code && code < one[0] + 8) colours[one[1]] = code - one[0] + one[2];
      });
    }
  }

  function pieces(line) {
    if (line.indexOf("\r") >= 0) line = line.split("\r").reverse().find(function (part) { return part.trim(); }) || "";
    line = line.replace(OTHER, "");
    var all = Array.from(line);
    if (all.length > LONGEST) line = all.slice(0, LONGEST).join("") + " ... (" + (all.length - LONGEST) + " more characters)";
    var flags = new Set(), colours = {}, found = [];
    line.split(/\x1b\[([0-9;:]*)m/).forEach(function (part, number) {
      if (number % 2) { apply(part, flags, colours); return; }
      if (!part) return;
      var names = Array.from(flags).sort();
      ["c", "k"].forEach(function (ground) { if (ground in colours) names.push(ground + colours[ground]); });
      found.push([printable(expanded(part)), names.join(" ")]);
    });
    return found;
  }

  function row(number, text) {
    var line = document.createElement("div"), link = document.createElement("a"), span = document.createElement("span");
    line.id = "L" + number;
    link.href = "#L" + number;
    link.textContent = number;
    fill(span, text);
    line.append(link, span);
    return line;
  }

  function fill(span, text) {
    span.replaceChildren.apply(span, pieces(text).map(function (piece) {
      if (!piece[1]) return document.createTextNode(piece[0]);
      var styled = document.createElement("i");
      styled.className = piece[1];
      styled.textContent = piece[0];
      return styled;
    }));
  }

  function follow(log) {
    var number = 0, rest = "", open = null, gap = null;
    function add(text) {
      var bottom = log.scrollTop + log.clientHeight >= log.scrollHeight - 30;
      var lines = (rest + text).split("\n"), batch = document.createDocumentFragment();
      rest = lines.pop();
      lines.forEach(function (line) {
        if (open) { fill(open.lastElementChild, line); open = null; } else batch.append(row(number += 1, line));
      });
      if (rest && open) fill(open.lastElementChild, rest);
      else if (rest) { open = row(number += 1, rest); batch.append(open); }
      log.append(batch);
      trim();
      if (bottom) log.scrollTop = log.scrollHeight;
    }
    function trim() {
      var over = log.querySelectorAll(":scope > div").length - MOST;
      if (over <= 0) return;
      for (; over > 0; over -= 1) log.querySelector(":scope > div").remove();
      if (!gap) { gap = document.createElement("p"); gap.className = "gap"; log.prepend(gap); }
      gap.textContent = "Earlier lines are left out here: the raw log has them.";
    }
    var events = new EventSource(log.dataset.events);
    events.addEventListener("log", function (event) { add(JSON.parse(event.data)); });
    events.addEventListener("end", function () { events.close(); location.reload(); });
    window.addEventListener("pagehide", function () { events.close(); });
  }

  // What a person has opened, or has the keyboard in, is left as it is until they are done with it.
  document.addEventListener("htmx:beforeSwap", function (event) {
    var place = event.detail.target;
    if (event.detail.requestConfig.verb !== "get" || !place.hasAttribute("hx-trigger")) return;
    if (place.querySelector("details[open]") || place.contains(document.activeElement)) event.detail.shouldSwap = false;
  });

  window.cudabuildLog = { pieces: pieces };
  document.querySelectorAll("[data-events]").forEach(follow);
})();
