// What a build's page does beyond showing itself: the plot, the search, copying, permalinks. Text is only ever set as text.
(function () {
  "use strict";

  function all(selector, root) { return Array.from((root || document).querySelectorAll(selector)); }

  function reveal() { all(".js[hidden]").forEach(function (one) { one.hidden = false; }); }

  // The plot

  function colour(name) { return getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim(); }

  function size(bytes) {
    if (bytes === null || bytes === undefined) return "-";
    var units = ["B", "KiB", "MiB", "GiB", "TiB"], place = 0;
    while (bytes >= 1024 && place < units.length - 1) { bytes /= 1024; place += 1; }
    return (place && bytes < 100 ? bytes.toFixed(1) : Math.round(bytes)) + " " + units[place];
  }

  function clock(seconds) {
    if (seconds === null || seconds === undefined) return "-";
    if (seconds < 60) return seconds.toFixed(seconds < 10 ? 1 : 0) + " s";
    var whole = Math.round(seconds), hours = Math.floor(whole / 3600), rest = whole % 3600;
    var text = Math.floor(rest / 60) + ":" + String(rest % 60).padStart(2, "0");
    return hours ? hours + ":" + text.padStart(5, "0") : text;
  }

  var powers = Array.from({ length: 50 }, function (_, power) { return Math.pow(2, power); });

  function draw(place) {
    var source = document.getElementById(place.dataset.plot);
    if (!source || typeof uPlot === "undefined") return;
    var data = JSON.parse(source.textContent);
    var curves = [
      [data.units, series("compilations", "line-units", { fill: colour("line-units") + "33" })],
      [data.budget, series("budget", "line-budget", { dash: [6, 4] })],
      [data.tree, series("all processes", "line-tree")],
    ].filter(function (one) { return one[0][0].length; });
    if (!curves.length) return;
    function series(label, name, more) {
      return Object.assign({ label: label, stroke: colour(name), width: 2, spanGaps: true, points: { show: false },
        value: function (_, value) { return size(value); } }, more);
    }
    function axis(values, more) {
      return Object.assign({ stroke: colour("quiet"), grid: { stroke: colour("edge"), width: 1 },
        ticks: { stroke: colour("edge") }, values: function (_, marks) { return marks.map(values); } }, more);
    }
    place.textContent = "";
    return new uPlot({
      width: Math.max(280, place.clientWidth), height: 240,
      scales: { x: { time: false, range: [0, Math.max(data.seconds, 0.1)] }, y: { range: [0, Math.max(data.top * 1.08, 1)] } },
      axes: [axis(clock), axis(size, { size: 80, incrs: powers })],
      series: [{ label: "time", value: function (_, value) { return clock(value); } }].concat(curves.map(function (one) { return one[1]; })),
    }, uPlot.join(curves.map(function (one) { return one[0]; })), place);
  }

  function plots() {
    all("[data-plot]").forEach(function (place) {
      if (place.plot) place.plot.destroy();
      place.plot = draw(place);
    });
  }

  // The search

  function unmark(line) {
    all("mark", line).forEach(function (one) { one.replaceWith(one.textContent); });
    line.normalize();
  }

  function mark(line, needle) {
    var walker = document.createTreeWalker(line.lastElementChild || line, NodeFilter.SHOW_TEXT), texts = [];
    while (walker.nextNode()) texts.push(walker.currentNode);
    texts.forEach(function (text) {
      for (var at; (at = text.data.toLowerCase().indexOf(needle)) >= 0;) {
        var found = text.splitText(at), rest = found.splitText(needle.length);
        var wrap = document.createElement("mark");
        found.replaceWith(wrap);
        wrap.append(found);
        text = rest;
      }
    });
  }

  function search(form) {
    var log = document.getElementById(form.dataset.search), input = form.querySelector("input[type=search]");
    var output = form.querySelector("output"), only = form.querySelector("[data-only]");
    var hits = [], place = -1, timer = 0;
    function tell() { output.textContent = input.value ? (hits.length ? place + 1 + " of " : "") + hits.length + (hits.length === 1 ? " line" : " lines") : ""; }
    function look() {
      hits.forEach(function (line) { line.classList.remove("hit", "at"); unmark(line); });
      var needle = input.value.toLowerCase();
      hits = needle ? all("div[id]", log).filter(function (line) { return line.lastElementChild.textContent.toLowerCase().includes(needle); }) : [];
      hits.forEach(function (line, number) { line.classList.add("hit"); if (number < 2000) mark(line, needle); });
      log.classList.toggle("only", only.checked && input.value !== "");
      place = -1;
      step(1, true);
    }
    function step(by, still) {
      if (hits[place]) hits[place].classList.remove("at");
      place = hits.length ? (place + by + hits.length) % hits.length : -1;
      if (hits[place]) { hits[place].classList.add("at"); show(log, hits[place]); }
      tell();
      return still;
    }
    input.addEventListener("input", function () { clearTimeout(timer); timer = setTimeout(look, 120); });
    only.addEventListener("change", look);
    form.addEventListener("submit", function (event) { event.preventDefault(); step(1); });
    form.addEventListener("keydown", function (event) {
      if (event.target === input && event.key === "Enter") { event.preventDefault(); clearTimeout(timer); if (!hits.length) look(); else step(event.shiftKey ? -1 : 1); }
      if (event.key === "Escape") { input.value = ""; look(); }
    });
    all("[data-step]", form).forEach(function (button) { button.addEventListener("click", function () { step(Number(button.dataset.step)); }); });
  }

  // In the log alone: the page stays where it is.
  function show(log, line) {
    var top = line.offsetTop;
    if (top < log.scrollTop || top > log.scrollTop + log.clientHeight - 40) log.scrollTop = top - log.clientHeight / 3;
  }

  // Of many compilations the longest is in sight.
  function longest() {
    all(".gantt li.longest").forEach(function (row) {
      var box = row.closest(".scroll");
      if (box && box.scrollTop === 0) box.scrollTop = Math.max(0, row.offsetTop - box.clientHeight / 2);
    });
  }

  function permalink() {
    var line = /^#L\d+$/.test(location.hash) && document.getElementById(location.hash.slice(1));
    if (!line) return;
    var log = line.closest(".log");
    if (log) log.classList.remove("only");
    line.scrollIntoView({ block: "center" });
  }

  function copying() {
    document.addEventListener("click", function (event) {
      var button = event.target.closest && event.target.closest("button.copy");
      if (!button) return;
      var source = button.parentElement.querySelector("pre"), label = button.firstChild;
      function said(word) { label.data = word; setTimeout(function () { label.data = "Copy"; }, 1500); }
      function selected() {
        var range = document.createRange();
        range.selectNodeContents(source);
        getSelection().removeAllRanges();
        getSelection().addRange(range);
        said("Selected");
      }
      if (!navigator.clipboard) { selected(); return; }
      navigator.clipboard.writeText(source.textContent).then(function () { said("Copied"); }, selected);
    });
  }

  function begin(root) {
    reveal();
    plots();
    longest();
    all("form[data-search]", root).forEach(function (form) { if (!form.ready) { form.ready = true; search(form); } });
  }

  begin(document);
  copying();
  permalink();
  window.addEventListener("hashchange", permalink);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", plots);
  var resizing = 0;
  window.addEventListener("resize", function () { clearTimeout(resizing); resizing = setTimeout(plots, 150); });
  document.addEventListener("htmx:afterSwap", function (event) { begin(event.target); });
})();
