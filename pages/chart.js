// A cursor over each chart: its legend shows the values at the nearest step. Without it points have tooltips.
"use strict";
for (const chart of document.querySelectorAll("figure.chart")) {
  const svg = chart.querySelector("figure > svg");
  const cursor = svg.querySelector(".cursor");
  const readings = [chart.querySelector(".at"), ...chart.querySelectorAll("output")];
  const atRest = readings.map((reading) => reading.textContent);
  const lines = [...svg.querySelectorAll("g.line")].map((line) =>
    [...line.querySelectorAll("circle")].map((point) => {
      const [step, value] = point.textContent.split(": ");
      return { x: Number(point.getAttribute("cx")), step, value };
    }),
  );
  const nearest = (points, x) =>
    points.reduce((best, point) => (Math.abs(point.x - x) < Math.abs(best.x - x) ? point : best));

  function show(event) {
    const box = svg.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
    const chosen = nearest(lines.flat(), at);
    cursor.setAttribute("x1", chosen.x);
    cursor.setAttribute("x2", chosen.x);
    cursor.setAttribute("visibility", "visible");
    readings[0].textContent = "at " + chosen.step;
    lines.forEach((points, n) => {
      const { step, value } = nearest(points, chosen.x);
      readings[n + 1].textContent = step === chosen.step ? value : `${value} (${step})`;
    });
  }

  function rest() {
    cursor.setAttribute("visibility", "hidden");
    readings.forEach((reading, n) => (reading.textContent = atRest[n]));
  }

  svg.addEventListener("pointermove", show);
  svg.addEventListener("pointerdown", show);
  svg.addEventListener("pointerleave", rest);
}
