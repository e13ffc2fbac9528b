"""What a person sees of a finished run: Airflow's pages in a real browser."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.wait import WebDriverWait

from airflow_trial import LiveAirflow, Project

PIPELINE = """
from aiflow_sdk import pipeline, sink, source

@pipeline(id="seen", schedule="0 3 * * *", owner="team_eyes", description="What a person sees.")
def seen(p):
    orders = p.read(source.onelake(id="orders", table="raw.orders", partitions={"dt": "{{ ds }}"}))
    for region in ["us", "eu"]:
        branch = p.branch_for_region(region)
        part = branch.transform(orders, id="enrich", engine="python", fn="etl:enrich")
        branch.write(part, sink.onelake(id="out", table=f"mart.{region}", partition_by=["dt"]))
"""
QUIET = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1500,900",
)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[WebDriver]:
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for argument in (*QUIET, f"--user-data-dir={tmp_path / 'chromium'}"):
        options.add_argument(argument)
    found = webdriver.Chrome(options, webdriver.ChromeService("/usr/bin/chromedriver"))
    yield found
    found.quit()


def test_grid_and_graph_show_the_finished_run(
    project: Project, airflow: LiveAirflow, browser: WebDriver, tmp_path: Path
):
    project.write("pipelines/seen.py", PIPELINE)
    project.write("etl.py", "def enrich(orders):\n    return orders\n")
    (project.lakes[0] / "raw" / "orders").mkdir(parents=True)
    orders = pl.DataFrame({"id": [1], "dt": ["2026-11-20"]})
    orders.write_delta(project.lakes[0] / "raw" / "orders", delta_write_options={"partition_by": ["dt"]})
    project.deploy()
    dag_id = f"{project.name}.seen"
    airflow.await_dag(dag_id)
    run_id = airflow.trigger(dag_id, "2026-11-20")
    airflow.unpause(dag_id)
    airflow.await_run(dag_id, run_id)

    def page() -> str:
        return browser.find_element(By.TAG_NAME, "body").text

    def shows(*texts: str) -> None:
        WebDriverWait(browser, 60).until(lambda _: all(text in page() for text in texts), page())

    browser.get(f"{airflow.url}/dags/{dag_id}/runs/{urllib.parse.quote(run_id, safe='')}")
    shows("Success", "2026-11-20", "enrich.us", "enrich.eu", "python")
    assert "AiflowOperator" not in page()

    # The graph is the view beside the grid, one button further.
    buttons = browser.find_elements(By.CSS_SELECTOR, "button[aria-label*='raph'], button[title*='raph']")
    assert buttons, "no button for the graph"
    buttons[0].click()
    WebDriverWait(browser, 60).until(lambda _: browser.find_elements(By.CSS_SELECTOR, ".react-flow__node"))
    nodes = {node.text.split("\n")[0] for node in browser.find_elements(By.CSS_SELECTOR, ".react-flow__node")}
    browser.save_screenshot(str(tmp_path / "graph.png"))
    assert {"us", "eu"} <= nodes
