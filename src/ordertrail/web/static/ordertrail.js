// Nothing here is needed: it adds a button to copy a command, and offers the zone of the browser.
"use strict";
for (const command of document.querySelectorAll("code.command")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.setAttribute("aria-label", "Copy the command " + command.textContent);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(command.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(command);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  command.after(button);
}
const zones = document.getElementById("zones");
if (zones) {
  const here = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (here && ![...zones.options].some((one) => one.value === here)) {
    const option = document.createElement("option");
    option.value = here;
    zones.append(option);
  }
}
