"""Why Spark does not begin, from what its JVM said; the lines are Spark 4.2's own."""

from __future__ import annotations

import os

import pytest

from ordertrail.engines.spark.start import _Held, why_not

EXITED = RuntimeError("[JAVA_GATEWAY_EXITED] Java gateway process exited before sending its port number.")
UNRESOLVED = """:: loading settings :: url = jar:file:/x/jars/ivy-2.5.3.jar!/org/apache/ivy/ivysettings.xml
:: resolving dependencies :: org.apache.spark#spark-submit-parent-1;1.0
:: problems summary ::
:::: WARNINGS
\t\tmodule not found: io.delta#delta-spark_4.2_2.13;4.4.0
\t\t::          UNRESOLVED DEPENDENCIES         ::
\t\t:: io.delta#delta-spark_4.2_2.13;4.4.0: not found
Exception in thread "main" x.RuntimeException: [unresolved dependency: io.delta#delta-spark_4.2_2.13;4.4.0: not found]
\tat org.apache.spark.deploy.SparkSubmitUtils$.resolveMavenCoordinates(SparkSubmit.scala:1)"""


@pytest.mark.parametrize(
    ("said", "message", "hint"),
    [
        (UNRESOLVED, "cannot fetch io.delta:delta-spark_4.2_2.13:4.4.0", '"spark.jars" ='),
        ("JAVA_HOME is not set", "there is no Java", "Java 17"),
        ("/x/bin/spark-class: line 97: /opt/bin/java: No such file or directory", "there is no Java", "Java 17"),
        (
            'Exception in thread "main" java.lang.UnsupportedClassVersionError: org/apache/spark/launcher/Main',
            "there is no Java",
            "Java 17",
        ),
        (
            'Exception in thread "main" org.apache.spark.SparkException: bad master; password=abc',
            "bad master; password=***",
            "[spark] in the config",
        ),
        ("", "JAVA_GATEWAY_EXITED", "[spark] in the config"),
    ],
)
def test_why_spark_does_not_begin(said: str, message: str, hint: str) -> None:
    found = why_not(EXITED, said.splitlines())
    assert found.message.startswith("Spark does not begin: ")
    assert message in found.message
    assert hint in found.hint
    assert "\n" not in found.message


def test_what_the_jvm_says_is_held_back_until_it_runs(capfd: pytest.CaptureFixture[str]) -> None:
    held = _Held()
    theirs = os.dup(held.write)  # the JVM's end of the pipe
    os.write(theirs, b"resolving packages\n")
    while not held._lines:
        os.sched_yield()
    held.pass_on()
    os.write(theirs, b"a warning while it runs\n")
    os.close(theirs)
    held._pump.join()
    assert capfd.readouterr().err == "a warning while it runs\n"


def test_what_a_jvm_that_does_not_start_said_is_told_and_not_shown(capfd: pytest.CaptureFixture[str]) -> None:
    held = _Held()
    os.write(held.write, b"one\ntwo \xff\n")
    assert held.end() == ["one", "two \N{REPLACEMENT CHARACTER}"]
    assert capfd.readouterr().err == ""
